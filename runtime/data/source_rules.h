#pragma once
#include <string>
#include <vector>

#include "base/content_hash.h"
#include "runtime/data/document_source.h"

namespace zerostep {

// What decides the documents of a source beside the content of its files: how they are compressed and how many are taken, and, of files of
// rows, how a text is made of each.
void add_file_rules(ContentHash& hash, const DocumentSource& source, const std::vector<std::string>& files);
void add_text_rules(ContentHash& hash, const DocumentSource& source);

}  // namespace zerostep
