#include "launch/replaceable.h"

#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace zerostep {

void check_replaceable(const std::string& option, const std::string& path, std::string_view beginning) {
  std::error_code ignored;
  const std::filesystem::path folder = std::filesystem::absolute(path, ignored).parent_path();
  if (!std::filesystem::is_directory(folder, ignored)) fail_input("{} {}: {} is no folder", option, path, folder.string());
  if (!std::filesystem::exists(path, ignored)) return;
  std::string found(beginning.size(), '\0');
  if (std::filesystem::is_regular_file(path, ignored)) std::ifstream(path).read(found.data(), static_cast<std::streamsize>(found.size()));
  if (found != beginning) fail_input("{} {}: that exists and is nothing that {} wrote before: give another name", option, path, option);
}

}  // namespace zerostep
