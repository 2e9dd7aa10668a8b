#pragma once
#include <string_view>

namespace zerostep {

// Keys of a Hugging Face config.json that describe the files, the training of others, outputs that nothing asks for, or how texts are made;
// and those of the head of another task. None changes what the model computes, whatever its value.
bool is_known_without_effect(std::string_view key);

}  // namespace zerostep
