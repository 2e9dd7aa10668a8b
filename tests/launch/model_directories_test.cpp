#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "models/safetensors.h"
#include "tests/launch/support/run_binary.h"
#include "tests/support/byte_vocabulary.h"

// Directories of models as people have them, through the commands: what they lack or hold beside the model is said, and what is written
// behaves elsewhere as here.
namespace zerostep::testing {
namespace {

using nlohmann::json;

#define EXPECT_SILENT(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

class ModelDirectories : public ::testing::Test {
 protected:
  void SetUp() override {
    place_.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nThe\nfilm\nis\ngood\nbad\n");
    place_.write("rows.tsv", "the film is good\tpositive\nthe film is bad\tnegative\ngood good\tpositive\nbad\tnegative\n");
  }
  // A file for a model; `data` holds members of that block.
  std::string file(const std::string& name, const json& model, json data = json::object(), const json& run = {{"steps", 2}}) const {
    json config = {{"train_batch_size", 4}, {"optimizer", {{"type", "AdamW"}, {"params", {{"lr", 1e-3}}}}}, {"model", model}, {"run", run}};
    config["run"]["output_dir"] = place_.path("runs");
    config["run"]["name"] = name;
    if (!data.contains("train")) data["train"] = data["eval"] = place_.path("rows.tsv");
    data["sequence_length"] = data.value("sequence_length", 16);
    config["data"] = data;
    place_.write(name + ".json", config.dump());
    return place_.path(name + ".json");
  }
  static json bert(const json& more = json::object()) {
    json model = {{"family", "bert"},         {"hidden_size", 16},
                  {"intermediate_size", 24},  {"num_hidden_layers", 1},
                  {"num_attention_heads", 2}, {"max_position_embeddings", 32},
                  {"vocab_size", 11},         {"dropout", 0.0}};
    model.update(more);
    return model;
  }
  static json llama(const json& more = json::object()) {
    json model = {{"family", "llama"},      {"hidden_size", 16},        {"intermediate_size", 24},
                  {"num_hidden_layers", 2}, {"num_attention_heads", 2}, {"max_position_embeddings", 64}};
    model.update(more);
    return model;
  }
  json in(const std::string& directory) const { return {{"path", place_.path(directory)}}; }
  json words() const { return {{"tokenizer", place_.path("vocab.txt")}}; }

  // A BERT of first values in a directory with its vocabulary.
  void make_bert(const std::string& directory, const json& more = json::object()) const {
    const Outcome made = place_.run({"init", file("make", bert(more), words()), place_.path(directory), "--overwrite"});
    ASSERT_EQ(made.status, 0) << made.err;
  }
  // Takes the tensors whose names begin so out of a directory.
  void drop(const std::string& directory, const std::vector<std::string>& prefixes) const {
    const std::string path = place_.path(directory + "/model.safetensors");
    std::vector<SafetensorsWriter::Tensor> kept;
    std::vector<float> all;
    {
      const SafetensorsFile file(path);
      for (const auto& [name, tensor] : file.tensors()) {
        const std::string& of_tensor = name;
        if (std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) { return of_tensor.starts_with(p); })) continue;
        kept.push_back({name, DType::F32, tensor.shape});
        std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
        file.read(name, 0, tensor.num_elements(), values.data());
        all.insert(all.end(), values.begin(), values.end());
      }
    }
    SafetensorsWriter writer(path, kept);
    writer.append(all.data(), static_cast<int64_t>(all.size()));
    writer.finish();
  }
  // A tokenizer.json of the bytes by their numbers and special tokens from 256 on, of which the first stands before every text.
  void write_tokenizer(const std::string& name, const std::vector<std::string>& specials, bool puts_first,
                       bool byte_fallback = false) const {
    json added = json::array();
    for (size_t i = 0; i < specials.size(); ++i) added.push_back({{"id", 256 + i}, {"content", specials[i]}, {"special", true}});
    json file = {{"added_tokens", added},
                 {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
                 {"model", {{"type", "BPE"}, {"byte_fallback", byte_fallback}, {"vocab", byte_vocabulary()}, {"merges", json::array()}}}};
    if (puts_first)
      file["post_processor"] = {{"type", "TemplateProcessing"},
                                {"single", {{{"SpecialToken", {{"id", specials[0]}}}}, {{"Sequence", {{"id", "A"}}}}}},
                                {"special_tokens", {{specials[0], {{"ids", {256}}}}}}};
    place_.write(name, file.dump());
  }
  Workplace place_;
};

TEST_F(ModelDirectories, AClassifierThatIsNotThereIsNamed) {
  make_bert("model");
  const std::string path = file("b", in("model"));
  EXPECT_SILENT(place_.run({"eval", path}).err, "untrained");
  drop("model", {"classifier.", "bert.pooler."});
  for (const int ranks : {1, 2}) {
    const Outcome evaluated = place_.run({"eval", path, "--set", "train_batch_size=4"}, {.ranks = ranks});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    for (const char* name : {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias", "untrained"})
      EXPECT_SAYS(evaluated.err, name);
    EXPECT_EQ(count(evaluated.err, "untrained classifier"), 1U) << "once, whatever the number of ranks";
    const std::string name = "run.name=on" + std::to_string(ranks);
    const Outcome trained = place_.run({"train", path, "--set", name}, {.ranks = ranks});
    ASSERT_EQ(trained.status, 0) << trained.err;
    EXPECT_SAYS(trained.out,
                "first values   bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias, classifier.weight (seed 1234)");
    EXPECT_SAYS(place_.read("runs/on" + std::to_string(ranks) + "/log.txt"), "classifier.weight");
  }
  EXPECT_SAYS(place_.run({"init", path, place_.path("copy")}).out, "first values (seed 1234): bert.pooler.dense.bias");
}

TEST_F(ModelDirectories, OtherClassesThanTheCheckpointsHaveAWayOut) {
  make_bert("model", {{"num_labels", 3}});
  json model = in("model");
  model["num_labels"] = 2;
  const Outcome refused = place_.run({"train", file("b", model)});
  EXPECT_EQ(refused.status, 2);
  for (const char* part :
       {"a classifier of 3 classes", "model.num_labels asks for 2", "leave model.num_labels out", "model.fresh_classifier"})
    EXPECT_SAYS(refused.err, part);
  model["fresh_classifier"] = true;
  const Outcome fresh = place_.run({"train", file("b", model), "--save-model", place_.path("out")});
  ASSERT_EQ(fresh.status, 0) << fresh.err;
  EXPECT_SAYS(fresh.out, "is asked for all but its classifier");
  EXPECT_SAYS(place_.run({"eval", place_.path("b.json")}).err, "model.fresh_classifier replaces bert.pooler.dense.bias");
  EXPECT_SAYS(fresh.err, "classifier.bias, classifier.weight");
  EXPECT_EQ(SafetensorsFile(place_.path("out/model.safetensors")).tensor("classifier.weight").shape, (std::vector<int64_t>{2, 16}));
  const Outcome left_out = place_.run({"train", file("c", in("model"))});
  EXPECT_EQ(left_out.status, 0) << left_out.err;
}

TEST_F(ModelDirectories, ReportsHaveEveryClassOfTheModel) {
  const Outcome text = place_.run({"eval", file("a", bert({{"num_labels", 3}}), words())});
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_SAYS(text.out, "LABEL_2");
  EXPECT_EQ(count(text.out, "(no samples)"), 1U) << text.out;
  const json report = json::parse(place_.run({"eval", place_.path("a.json"), "--json"}).out);
  ASSERT_EQ(report["classes"].size(), 3U);
  EXPECT_EQ(report["classes"][2]["support"], 0);
  EXPECT_EQ(report["samples"], 4);
  const Outcome trained = place_.run({"train", place_.path("a.json"), "--save-model", place_.path("out")});
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(json::parse(place_.read("out/config.json"))["id2label"], json::parse(R"({"0": "negative", "1": "positive", "2": "LABEL_2"})"));
}

TEST_F(ModelDirectories, ExportsKeepTheTokensOfTheirTexts) {
  make_bert("source");
  place_.write("source/tokenizer_config.json", R"({"do_lower_case": false})");
  place_.write("source/special_tokens_map.json", R"({"unk_token": "[UNK]"})");
  place_.write("source/generation_config.json", R"({"eos_token_id": [3, 5]})");
  place_.write("one.tsv", "The film\tpositive\nbad\tnegative\n");
  json data = {{"tokenizer", place_.path("source/vocab.txt")}};
  const Outcome trained =
      place_.run({"train", file("b", in("source"), data), "--save-model", place_.path("out"), "--set", "run.checkpoint_interval=2"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  // A directory that held another tokenizer, which would be read instead.
  std::filesystem::create_directory(place_.path("exported"));
  place_.write("exported/tokenizer.json", "{}");
  place_.write("exported/merges.txt", "");
  place_.write("exported/notes.txt", "mine");
  const Outcome exported = place_.run({"export", place_.path("runs/b/checkpoints/step_00000002"), place_.path("exported"), "--overwrite"});
  ASSERT_EQ(exported.status, 0) << exported.err;
  EXPECT_TRUE(place_.exists("exported/notes.txt"));
  std::map<std::string, std::string> batches;
  for (const char* directory : {"source", "out", "exported"}) {
    const std::string rows = file("c", in(directory), {{"train", place_.path("one.tsv")}});
    const Outcome shown = place_.run({"inspect", "batches", rows, "--steps", "1", "--set", "train_batch_size=2"});
    ASSERT_EQ(shown.status, 0) << shown.err << directory;
    batches[directory] = shown.out;
    if (std::string(directory) == "source") continue;
    for (const char* name : {"vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"})
      EXPECT_TRUE(place_.exists(std::string(directory) + "/" + name)) << directory << name;
    EXPECT_FALSE(place_.exists(std::string(directory) + "/tokenizer.json")) << directory;
    EXPECT_FALSE(place_.exists(std::string(directory) + "/merges.txt")) << directory;
  }
  EXPECT_SAYS(batches["source"], "[2,6,7,3]");  // [CLS] The film [SEP], and not "the"
  EXPECT_EQ(batches["out"], batches["source"]);
  EXPECT_EQ(batches["exported"], batches["source"]);
  // Into the directory that it came from.
  const Outcome onto = place_.run({"train", file("d", in("source"), data), "--save-model", place_.path("source"), "--overwrite"});
  ASSERT_EQ(onto.status, 0) << onto.err;
  EXPECT_TRUE(place_.exists("source/vocab.txt"));
}

// transformers goes by the type of the model where nothing names the class of a vocabulary.
TEST_F(ModelDirectories, ExportsNameTheClassOfTheirTokenizer) {
  const auto saved = [&](const json& model, const json& data) {
    const Outcome made = place_.run({"init", file("a", model, data), place_.path("out"), "--overwrite"});
    EXPECT_EQ(made.status, 0) << made.err;
    return place_.exists("out/tokenizer_config.json") ? json::parse(place_.read("out/tokenizer_config.json")) : json();
  };
  const json texts = {{"train", place_.path("corpus.txt")}, {"tokenizer", place_.path("vocab.txt")}};
  EXPECT_EQ(saved(llama(), texts), json({{"tokenizer_class", "BertTokenizer"}}));
  EXPECT_EQ(saved(bert(), words()), json()) << "a BERT's own needs no name, and that of the model before is gone";
  place_.write("tokenizer_config.json", R"({"do_lower_case": false})");
  EXPECT_EQ(saved(llama(), texts), json::parse(R"({"do_lower_case": false, "tokenizer_class": "BertTokenizer"})"));
  place_.write("tokenizer_config.json", R"({"tokenizer_class": "BertTokenizerFast"})");
  EXPECT_EQ(saved(llama(), texts), json::parse(R"({"tokenizer_class": "BertTokenizerFast"})"));
  // A RoBERTa's own vocabulary needs no name beside a RoBERTa, and GPT-2's does.
  json vocab = byte_vocabulary();
  for (const char* token : {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"}) vocab[token] = vocab.size();
  std::filesystem::create_directory(place_.path("pairs"));
  place_.write("pairs/vocab.json", vocab.dump());
  place_.write("pairs/merges.txt", "#version: 0.2\n");
  const json roberta = {{"family", "roberta"},     {"num_hidden_layers", 1},   {"hidden_size", 16},
                        {"intermediate_size", 16}, {"num_attention_heads", 2}, {"max_position_embeddings", 32}};
  json pairs = words();
  pairs["tokenizer"] = place_.path("pairs/vocab.json");
  EXPECT_EQ(saved(roberta, pairs), json({{"tokenizer_class", "GPT2Tokenizer"}}));
  place_.write("pairs/config.json", R"({"model_type": "roberta"})");
  EXPECT_EQ(saved(roberta, pairs), json());
  EXPECT_EQ(saved(llama(), {{"train", place_.path("corpus.txt")}, {"tokenizer", place_.path("pairs/vocab.json")}}),
            json({{"tokenizer_class", "RobertaTokenizer"}}));
}

TEST_F(ModelDirectories, AMeanPooledClassifierIsNoneForOtherTools) {
  const std::string path = file("a", bert({{"classifier_pooling", "mean"}}), words());
  const Outcome trained = place_.run({"train", path, "--save-model", place_.path("out"), "--set", "run.checkpoint_interval=2"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_SAYS(trained.err, "transformers does not know classifier_pooling \"mean\"");
  EXPECT_SAYS(place_.read("runs/a/log.txt"), "classifier_pooling");
  EXPECT_SAYS(place_.run({"export", place_.path("runs/a/checkpoints/step_00000002"), place_.path("exported")}).err, "classifier_pooling");
  EXPECT_SAYS(place_.run({"init", path, place_.path("first")}).err, "classifier_pooling");
  EXPECT_SILENT(place_.run({"init", file("b", bert(), words()), place_.path("second")}).err, "classifier_pooling");
}

TEST_F(ModelDirectories, ATokenizerThatIsNotReadStopsOnlyTexts) {
  const json text = {{"train", place_.path("corpus.txt")}};
  ASSERT_EQ(place_.run({"init", file("a", llama(), text), place_.path("model")}).status, 0);
  write_tokenizer("model/tokenizer.json", {"<s>", "</s>"}, false, true);
  std::string tokens;
  for (int i = 0; i < 400; ++i) tokens += std::string{static_cast<char>(i % 200), 0};
  place_.write("x.bin", tokens);
  const std::string bin = file("b", in("model"), {{"train", place_.path("x.bin")}, {"eval", place_.path("x.bin")}});
  const Outcome trained = place_.run({"train", bin});
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_SAYS(trained.err, "byte_fallback");
  EXPECT_SAYS(trained.err, "token files (.bin) need no tokenizer");
  EXPECT_EQ(place_.column("b", "loss").size(), 2U);
  for (const std::vector<std::string>& command : {std::vector<std::string>{"plan", bin}, {"inspect", "model", bin}, {"eval", bin}})
    EXPECT_EQ(place_.run(command).status, 0) << command[0];
  const Outcome texts = place_.run({"train", file("c", in("model"), text)});
  EXPECT_EQ(texts.status, 2);
  EXPECT_SAYS(texts.err, "byte_fallback");
  EXPECT_FALSE(place_.exists("runs/c/metrics.csv"));
  EXPECT_EQ(place_.run({"generate", "--model", place_.path("model"), "--prompt", "a"}).status, 2);
  // One that the file names is asked for.
  const Outcome named = place_.run({"train", bin, "--set", "data.tokenizer=" + place_.path("model/tokenizer.json"), "--set", "run.name=d"});
  EXPECT_EQ(named.status, 2);
  EXPECT_SAYS(named.err, "byte_fallback");
}

TEST_F(ModelDirectories, TextBeginsAndEndsWithTheTokenizersTokens) {
  write_tokenizer("tokenizer.json", {"<|begin_of_text|>", "<|end_of_text|>"}, true);
  const json data = {{"train", place_.path("corpus.txt")}, {"tokenizer", place_.path("tokenizer.json")}};
  const std::string path = file("a", llama({{"vocab_size", 320}, {"initializer_range", 0.5}}), data);
  ASSERT_EQ(place_.run({"init", path, place_.path("model")}).status, 0);
  const json config = json::parse(place_.read("model/config.json"));
  EXPECT_EQ(config["bos_token_id"], 256) << "transformers would take 1";
  EXPECT_EQ(config["eos_token_id"], 257) << "transformers would take 2";
  const auto generate = [&](const std::string& prompt, const std::vector<std::string>& more = {}) {
    std::vector<std::string> command{"generate", "--model", place_.path("model"), "--prompt", prompt, "--only-new", "--tokens", "40"};
    command.insert(command.end(), more.begin(), more.end());
    const Outcome done = place_.run(command);
    EXPECT_EQ(done.status, 0) << done.err;
    return done;
  };
  // What the model says without the template, the token written out, is what it says with it.
  const Outcome with = generate("Once", {"--temperature", "0"});
  write_tokenizer("bare.json", {"<|begin_of_text|>", "<|end_of_text|>"}, false);
  const std::vector<std::string> bare{"--temperature", "0", "--tokenizer", place_.path("bare.json")};
  EXPECT_EQ(generate("<|begin_of_text|>Once", bare).out, with.out);
  EXPECT_NE(generate("Once", bare).out, with.out);
  EXPECT_EQ(with.err, "");
  EXPECT_SAYS(generate("<|begin_of_text|>Once").err, "stands there twice");
  // 62 ids of the vocabulary have no text: they are never chosen, whatever the seed.
  for (const char* seed : {"1", "2", "3"}) generate("Hi", {"--seed", seed, "--temperature", "3"});
  // The first token that comes becomes the end.
  const auto first = static_cast<unsigned char>(with.out.at(0));
  ASSERT_GT(with.out.size(), 2U);
  place_.write("model/generation_config.json", json{{"eos_token_id", {999, first}}, {"temperature", 0.6}, {"top_p", nullptr}}.dump());
  const Outcome ended = generate("Once", {"--temperature", "0"});
  EXPECT_EQ(ended.out, "\n");
  EXPECT_SAYS(ended.err, "generation_config.json: temperature 0.6: not used");
  EXPECT_EQ(generate("Once", {"--temperature", "0", "--ignore-end"}).out, with.out);
}

TEST_F(ModelDirectories, AnotherTokenizerThanTheModelsIsSaid) {
  make_bert("model");
  const std::string path = file("b", in("model"));
  ASSERT_EQ(place_.run({"train", path, "--set", "run.checkpoint_interval=2"}).status, 0);
  std::filesystem::create_directory(place_.path("other"));
  place_.write("other/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\nthe\nThe\nis\ngood\nbad\n");
  for (const char* model : {"runs/b/checkpoints/step_00000002", "model"}) {
    const std::vector<std::string> own{"eval", path, "--checkpoint", place_.path(model)};
    EXPECT_SILENT(place_.run(own).err, "tokenizer") << model;
    std::vector<std::string> other = own;
    other.insert(other.end(), {"--set", "data.tokenizer=" + place_.path("other/vocab.txt")});
    const Outcome done = place_.run(other);
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_SAYS(done.err, "its tokenizer gives other tokens than data.tokenizer");
  }
}

TEST_F(ModelDirectories, FilesThatAreOtherThingsAreNamed) {
  make_bert("model");
  const std::string path = file("b", in("model"));
  const std::string config = place_.read("model/config.json");
  const auto says = [&](const char* part) {
    const Outcome refused = place_.run({"train", path});
    EXPECT_EQ(refused.status, 2);
    EXPECT_SAYS(refused.err, part);
    EXPECT_FALSE(place_.exists("runs/b/metrics.csv"));
  };
  place_.write("model/config.json", config + "}\n");
  says("model/config.json:");
  place_.write("model/config.json", "{}");
  says("there is no model_type");
  place_.write("model/config.json", config);
  place_.write("model/model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n");
  says("pointer of Git LFS");
  make_bert("model");
  place_.write("rows.tsv", "caf\xE9 good\tpositive\nbad\tnegative\n");
  says("rows.tsv:1: byte 4 of the line, 0xE9");
  place_.write("rows.tsv", "good\tpositive\rbad\tnegative\r");
  says("CR alone");
}

}  // namespace
}  // namespace zerostep::testing
