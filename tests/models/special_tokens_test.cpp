#include "models/tokenizer/special_tokens.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "models/tokenizer/tokenizer.h"
#include "tests/support/byte_vocabulary.h"
#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

// Special tokens mean the same in every form of a tokenizer.
namespace zerostep {
namespace {

using nlohmann::json;
using Tokens = std::vector<int32_t>;

class SpecialTokensTest : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(folder_.path(name)).parent_path());
    std::ofstream(folder_.path(name), std::ios::binary) << text;
    return folder_.path(name);
  }
  // The bytes by their numbers, "ab" 256, <|endoftext|> 257 and <|im_end|> 258.
  static json vocabulary() {
    json vocab = byte_vocabulary();
    vocab["ab"] = 256;
    vocab["<|endoftext|>"] = 257;
    vocab["<|im_end|>"] = 258;
    return vocab;
  }
  void write_pair(const std::string& folder) const {
    write(folder + "/vocab.json", vocabulary().dump());
    write(folder + "/merges.txt", "#version: 0.2\na b\n");
  }
  Tokens encode(const std::string& path, const std::string& text) const {
    Tokens tokens;
    load_tokenizer(folder_.path(path))->encode(text, tokens);
    return tokens;
  }
  std::string refusal(const std::string& path) const {
    try {
      load_tokenizer(folder_.path(path));
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }
  ScratchFolder folder_;
};

TEST_F(SpecialTokensTest, AreFoundInTextsByVocabularyAndMerges) {
  write_pair("a");
  EXPECT_EQ(encode("a", "ab<|endoftext|>b"), (Tokens{256, 257, 'b'}));
  EXPECT_EQ(encode("a", "<|im_end|>").size(), 10U) << "nothing says that it is one";
  const Tokens expected{256, 258, 'b', 257};
  write_pair("config");
  write("config/tokenizer_config.json", R"({"eos_token": "<|im_end|>"})");
  write_pair("decoder");
  write("decoder/tokenizer_config.json", R"({"added_tokens_decoder": {"258": {"content": "<|im_end|>", "special": true}}})");
  write_pair("more");
  write("more/tokenizer_config.json", R"({"additional_special_tokens": ["<|im_end|>"]})");
  write_pair("map");
  write("map/special_tokens_map.json", R"({"eos_token": {"content": "<|im_end|>", "lstrip": false}})");
  write_pair("added");
  write("added/added_tokens.json", R"({"<|im_end|>": 258})");
  for (const char* form : {"config", "decoder", "more", "map", "added"})
    EXPECT_EQ(encode(form, "ab<|im_end|>b<|endoftext|>"), expected) << form;
}

TEST_F(SpecialTokensTest, MayLieBeyondTheVocabulary) {
  write_pair("a");
  write("a/added_tokens.json", R"({"<pad>": 300})");
  const auto tokenizer = load_tokenizer(folder_.path("a"));
  EXPECT_EQ(encode("a", "b<pad>"), (Tokens{'b', 300}));
  EXPECT_EQ(tokenizer->vocabulary_size(), 301);
  EXPECT_EQ(tokenizer->decode({300, 'b'}), "<pad>b");
  EXPECT_TRUE(tokenizer->has_text(300));
  EXPECT_FALSE(tokenizer->has_text(299)) << "an id between that is nobody's";
  EXPECT_FALSE(tokenizer->has_text(301));
  EXPECT_FALSE(tokenizer->has_text(-1));
  // One that has no id anywhere is text.
  write("a/special_tokens_map.json", R"({"mask_token": "<none>"})");
  EXPECT_EQ(encode("a", "<none>").size(), 6U);
}

TEST_F(SpecialTokensTest, TheEndIsTheOneThatTheFilesName) {
  write_pair("a");
  EXPECT_EQ(load_tokenizer(folder_.path("a"))->end_of_document(), 257);
  write("a/tokenizer_config.json", R"({"eos_token": {"content": "<|im_end|>"}, "bos_token": "<|endoftext|>", "add_bos_token": true})");
  EXPECT_EQ(load_tokenizer(folder_.path("a"))->end_of_document(), 258);
  EXPECT_EQ(load_tokenizer(folder_.path("a"))->prefix(), Tokens{257});
  write("a/tokenizer_config.json", R"({"eos_token": "<none>"})");
  EXPECT_EQ(load_tokenizer(folder_.path("a"))->end_of_document(), 257);
  EXPECT_EQ(load_tokenizer(folder_.path("a"))->prefix(), Tokens{});
}

// RoBERTa's are in its vocabulary, two of them around a text. Its tokenizer.json says that <mask> takes the space before it along;
// transformers' RobertaTokenizer of the other files does not.
TEST_F(SpecialTokensTest, RobertasAreThoseOfItsClassAndOfItsTokenizerJson) {
  json vocab = byte_vocabulary();
  vocab["ab"] = 256;
  const std::vector<std::string> specials{"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
  for (size_t i = 0; i < specials.size(); ++i) vocab[specials[i]] = 257 + i;
  for (const char* form : {"type", "class"}) {
    write(std::string(form) + "/vocab.json", vocab.dump());
    write(std::string(form) + "/merges.txt", "#version: 0.2\na b\n");
  }
  write("type/config.json", R"({"model_type": "roberta"})");
  write("class/tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizerFast"})");
  json added = json::array();
  for (size_t i = 0; i < specials.size(); ++i)
    added.push_back({{"id", 257 + i},
                     {"content", specials[i]},
                     {"single_word", false},
                     {"lstrip", specials[i] == "<mask>"},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  write(
      "json/tokenizer.json",
      json{{"added_tokens", added},
           {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
           {"post_processor", {{"type", "RobertaProcessing"}, {"sep", {"</s>", 259}}, {"cls", {"<s>", 257}}, {"add_prefix_space", false}}},
           {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array({"a b"})}}}}
          .dump());
  for (const char* form : {"type", "class", "json"}) {
    const auto tokenizer = load_tokenizer(folder_.path(form));
    EXPECT_EQ(tokenizer->prefix(), Tokens{257}) << form;
    EXPECT_EQ(tokenizer->suffix(), Tokens{259}) << form;
    EXPECT_EQ(tokenizer->padding(), 258) << form;
    EXPECT_EQ(tokenizer->mask(), std::optional<int32_t>(261)) << form;
    EXPECT_EQ(tokenizer->end_of_document(), 259) << form;
    const Tokens expected = std::string(form) == "json" ? Tokens{256, 261, 259, 'b'} : Tokens{256, ' ', 261, 259, 'b'};
    EXPECT_EQ(encode(form, "ab <mask></s>b"), expected) << form;
  }
  // Other byte-level vocabularies have neither.
  write_pair("gpt2");
  EXPECT_EQ(load_tokenizer(folder_.path("gpt2"))->padding(), 257);
  EXPECT_EQ(load_tokenizer(folder_.path("gpt2"))->mask(), std::nullopt);
}

TEST_F(SpecialTokensTest, AVocabularyIsReadByTheRulesOfItsClass) {
  write_pair("a");
  EXPECT_EQ(encode("a", "e\xCC\x81"), (Tokens{'e', 0xCC, 0x81})) << "GPT-2 composes nothing";
  write("a/tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  EXPECT_EQ(encode("a", "e\xCC\x81"), (Tokens{0xC3, 0xA9})) << "Qwen2 does";
  write("a/tokenizer_config.json", "{}");
  write("a/config.json", R"({"model_type": "qwen2"})");
  EXPECT_EQ(encode("a", "e\xCC\x81"), (Tokens{0xC3, 0xA9})) << "and so does the tokenizer of its model";
  write("a/config.json", R"({"model_type": "gpt2"})");
  EXPECT_EQ(encode("a", "e\xCC\x81"), (Tokens{'e', 0xCC, 0x81}));
  write("a/tokenizer_config.json", R"({"tokenizer_class": "GPT2TokenizerFast"})");
  EXPECT_EQ(encode("a", "ab"), Tokens{256});
  write("a/tokenizer_config.json", R"({"tokenizer_class": "CLIPTokenizer"})");
  EXPECT_SAYS(refusal("a"), "tokenizer_class \"CLIPTokenizer\"");
  EXPECT_SAYS(refusal("a"), "tokenizer.json");
  write("a/tokenizer_config.json", R"({"add_prefix_space": true})");
  EXPECT_EQ(encode("a", "b"), (Tokens{' ', 'b'}));
  EXPECT_EQ(encode("a", " b"), (Tokens{' ', 'b'}));
  write("a/tokenizer_config.json", "{\n\"add_prefix_space\": tru}");
  EXPECT_SAYS(refusal("a"), "tokenizer_config.json:2:");
  write("a/tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})");
  EXPECT_SAYS(refusal("a"), "added_tokens_decoder.x");
  write("a/tokenizer_config.json", "{}");
  write("a/added_tokens.json", R"({"<pad>": -1})");
  EXPECT_SAYS(refusal("a"), "'<pad>' is -1");
}

TEST_F(SpecialTokensTest, AreFoundInTextsByWordPiece) {
  const std::string vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\n[EOT]\nbad\n";
  write("a/vocab.txt", vocab);
  EXPECT_EQ(encode("a", "good [SEP] bad [EOT]"), (Tokens{5, 3, 7, 1, 1, 1})) << "nothing says that [EOT] is one";
  write("a/tokenizer_config.json", R"({"additional_special_tokens": ["[EOT]"]})");
  EXPECT_EQ(encode("a", "good [SEP] bad [EOT]"), (Tokens{5, 3, 7, 6}));
  // Roles that another file names.
  write("b/vocab.txt", "<pad>\n[UNK]\n[CLS]\n[SEP]\n<mask>\ngood\n");
  EXPECT_SAYS(refusal("b"), "[PAD]");
  write("b/special_tokens_map.json", R"({"pad_token": "<pad>", "mask_token": {"content": "<mask>"}})");
  EXPECT_EQ(load_tokenizer(folder_.path("b"))->mask(), std::optional<int32_t>(4));
  EXPECT_EQ(load_tokenizer(folder_.path("b"))->padding(), 0);
  EXPECT_EQ(encode("b", "good<mask>"), (Tokens{5, 4}));
}

TEST_F(SpecialTokensTest, FilesOfAVocabularyAreText) {
  const std::string vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\n";
  write("bom/vocab.txt", "\xEF\xBB\xBF" + vocab);
  EXPECT_EQ(encode("bom", "good"), Tokens{5});
  write("cr/vocab.txt", "[PAD]\r[UNK]\r[CLS]\r");
  EXPECT_SAYS(refusal("cr"), "CR alone");
  write("latin1/vocab.txt", vocab + "caf\xE9\n");
  EXPECT_SAYS(refusal("latin1"), "vocab.txt:7: byte 4 of the line");
  write_pair("pair");
  write("pair/merges.txt", "\xEF\xBB\xBF#version: 0.2\na b\n");
  EXPECT_EQ(encode("pair", "ab"), Tokens{256});
  write("pair/merges.txt", "#version: 0.2\ra b\r");
  EXPECT_SAYS(refusal("pair"), "merges.txt: its lines end with CR alone");
}

TEST_F(SpecialTokensTest, FilesAreNamedAsOtherToolsNameThem) {
  const auto names = [&](const std::string& path) {
    std::string out;
    for (const TokenizerFile& file : tokenizer_files(folder_.path(path)))
      out += std::filesystem::relative(file.path, folder_.folder()).string() + "=" + file.name + " ";
    return out;
  };
  for (const char* name : {"all/tokenizer.json", "all/my.json", "all/vocab.txt", "all/tokenizer_config.json", "all/special_tokens_map.json",
                           "all/other.txt", "bert/vocab.txt", "openai/encoder.json", "openai/vocab.bpe", "half/vocab.json"})
    write(name, "{}");
  EXPECT_EQ(names("all"),
            "all/tokenizer.json=tokenizer.json all/vocab.txt=vocab.txt all/tokenizer_config.json=tokenizer_config.json "
            "all/special_tokens_map.json=special_tokens_map.json ");
  EXPECT_EQ(names("all/vocab.txt"),
            "all/vocab.txt=vocab.txt all/tokenizer_config.json=tokenizer_config.json "
            "all/special_tokens_map.json=special_tokens_map.json ");
  EXPECT_EQ(names("all/my.json"),
            "all/my.json=tokenizer.json all/tokenizer_config.json=tokenizer_config.json "
            "all/special_tokens_map.json=special_tokens_map.json ");
  EXPECT_EQ(names("bert"), "bert/vocab.txt=vocab.txt ");
  EXPECT_EQ(names("openai/encoder.json"), "openai/encoder.json=vocab.json openai/vocab.bpe=merges.txt ");
  EXPECT_EQ(names("openai"), "openai/encoder.json=vocab.json openai/vocab.bpe=merges.txt ");
  EXPECT_EQ(names("half"), "") << "no merges, so no tokenizer";
  EXPECT_EQ(names("nowhere"), "");
}

}  // namespace
}  // namespace zerostep
