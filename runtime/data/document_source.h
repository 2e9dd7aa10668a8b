#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zerostep {

// One source of documents or labelled texts: files, and how a text is made of each of their rows.
struct DocumentSource {
  std::string name = {};           // for reports; "": it has none
  std::string key = "data.train";  // JSON path, for messages
  std::string how_to_get = {};     // what brings its files here, for messages that miss them; "": nothing that is known
  // Files or globs; the order of the list is kept, a glob's matches (* ? [...] {a,b}) are sorted by their bytes.
  std::vector<std::string> paths = {};
  std::string split = {};  // the part of a folder that has several; "": none is named
  std::string text = {};   // a template of fields; "": text_field and join_fields make the text
  std::string text_field = "text";
  std::vector<std::string> join_fields = {};  // further fields, joined to the text with a newline
  bool skips_missing = false;                 // rows without one of these fields, or with null there, are left out; false: they are errors
  int64_t max_documents = 0;                  // 0: all; otherwise so many, the first
  double weight = 0;                          // its share among the sources that have weights, which all have or none; 0: none
};

// What a source is called in reports: its name, or that of its files as they were named.
std::string name_of(const DocumentSource& source);

// The files that a source of documents stands for, in order. Each is a readable .txt, .jsonl or .bin file; otherwise an InputError that
// begins with the source's key. Reads no file.
std::vector<std::string> corpus_files(const DocumentSource& source);
// The same of labelled texts: .tsv, .csv or .jsonl.
std::vector<std::string> table_files(const DocumentSource& source);

}  // namespace zerostep
