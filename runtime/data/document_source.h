#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace zerostep {

// What messages call the ways to say how a source is read: keys of a run's file, or options of a command. Empty: there is no such way.
struct SourceWays {
  std::string text = {};  // what gives a template; "": "the template of KEY"
  std::string text_field = "data.text_field";
  std::string skips_missing = "data.missing \"skip\"";
  std::string split = "\"split\"";  // a key of the source's object, or an option that a value follows
};

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
  SourceWays ways = {};
};

// What a source is called in reports: its name, or that of its files as they were named.
std::string name_of(const DocumentSource& source);

// The files that a source of documents stands for, in order, those of saved data sets among them. Each is a readable file of a kind of
// corpus_kind (corpus_files.h); otherwise an InputError that begins with the source's key. Reads no file but those that list others.
std::vector<std::string> corpus_files(const DocumentSource& source);
// The same of labelled texts: the kinds of table_kind.
std::vector<std::string> table_files(const DocumentSource& source);

}  // namespace zerostep
