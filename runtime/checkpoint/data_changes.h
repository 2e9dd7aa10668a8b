#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace zerostep {

// Where two resolved configurations differ in what makes the samples of one of their lists of sources, "data.train" or "data.bp_train": its
// files, weights, splits, texts and counts, and the keys that hold for all lists. Each as a sentence's part: "data.train[0].weight is 1
// here and 3 in the checkpoint"; a value that only one of them has is "missing" in the other.
std::vector<std::string> data_changes(const nlohmann::ordered_json& here, const nlohmann::ordered_json& in_checkpoint,
                                      const std::string& list);

}  // namespace zerostep
