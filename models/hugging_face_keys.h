#pragma once
#include <string>

namespace zerostep {

// Keys that describe the files, the training of others, outputs that nothing asks for, or how texts are made; and those of the head of
// another task. None changes what the model computes.
bool is_known_without_effect(const std::string& key);

}  // namespace zerostep
