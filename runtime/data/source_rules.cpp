#include "runtime/data/source_rules.h"

#include "runtime/data/compressed_file.h"

namespace zerostep {

void add_file_rules(ContentHash& hash, const DocumentSource& source, const std::vector<std::string>& files) {
  // A plain file and a compressed one may have the same bytes.
  for (size_t i = 0; i < files.size(); ++i)
    if (const Compression compression = compression_of(files[i]); compression != Compression::None)
      hash.add("compressed").add(i).add(static_cast<uint64_t>(compression));
  if (source.max_documents > 0) hash.add("documents").add(static_cast<uint64_t>(source.max_documents));
}

void add_text_rules(ContentHash& hash, const DocumentSource& source) {
  if (source.text.empty()) {
    hash.add(source.text_field).add(source.join_fields.size());
    for (const std::string& field : source.join_fields) hash.add(field);
  } else {
    hash.add("template").add(source.text);
  }
  if (source.skips_missing) hash.add("rows that lack a field are left out");
}

}  // namespace zerostep
