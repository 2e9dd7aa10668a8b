#pragma once
#include <string>
#include <vector>

#include "runtime/data/document_source.h"

namespace zerostep {

// Whether a folder is one that `save_to_disk` of Hugging Face's datasets made: a data set (state.json), or several (dataset_dict.json).
bool is_saved_dataset(const std::string& folder);
// Its .arrow files, in their order; of several data sets those of the source's split. InputError that begins with the source's key: what is
// damaged or missing; no split named where there are several, or one that is not there, with those there are.
std::vector<std::string> saved_dataset_files(const std::string& folder, const DocumentSource& source);

}  // namespace zerostep
