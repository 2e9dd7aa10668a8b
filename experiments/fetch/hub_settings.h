#pragma once
#include <cstdint>
#include <string>

namespace zerostep {

// A Hugging Face hub, and how it is asked.
struct HubSettings {
  std::string endpoint = "https://huggingface.co";  // no slash at its end
  bool is_endpoint_given = false;                   // by HF_ENDPOINT
  std::string token;                                // "": none
  std::string token_from;                           // HF_TOKEN, or the file that it stands in
  std::string token_file;                           // where huggingface_hub leaves one, whether it is there or not
  int64_t stall_seconds = 60;                       // how long an answer may bring less than 1 KiB a second
  double pause_seconds = 1;                         // before the second attempt; twice as long before each further one
};

// As huggingface_hub takes them: HF_ENDPOINT, HF_TOKEN, and without that the file HF_TOKEN_PATH, HF_HOME/token,
// $XDG_CACHE_HOME/huggingface/token or ~/.cache/huggingface/token, the first of which the environment has the variable; it may be missing.
// InputError naming what cannot be meant, and a file of a token that cannot be read.
HubSettings hub_settings_of_environment();

}  // namespace zerostep
