#include "sharding/cuda/nccl_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace zerostep {
namespace {

NcclLibrary load() {
  NcclLibrary out;
  // Where it is loaded already the name alone finds it.
  const bool is_open = dlopen("libnccl.so.2", RTLD_NOW | RTLD_GLOBAL) != nullptr;
  const std::string reason = is_open ? "" : dlerror();
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
    if (function == nullptr && out.why_not.empty())
      out.why_not = is_open ? fmt::format("libnccl.so.2 has no {}: it is of another version", name)
                            : fmt::format("libnccl.so.2 cannot be opened: {}", reason);
  };
  find(out.get_unique_id, "ncclGetUniqueId");
  find(out.init_rank, "ncclCommInitRankConfig");
  find(out.async_error, "ncclCommGetAsyncError");
  find(out.finalize, "ncclCommFinalize");
  find(out.destroy, "ncclCommDestroy");
  find(out.abort, "ncclCommAbort");
  find(out.error_string, "ncclGetErrorString");
  find(out.group_start, "ncclGroupStart");
  find(out.group_end, "ncclGroupEnd");
  find(out.send, "ncclSend");
  find(out.receive, "ncclRecv");
  find(out.all_gather, "ncclAllGather");
  find(out.broadcast, "ncclBroadcast");
  find(out.reduce_scatter, "ncclReduceScatter");
  find(out.all_reduce, "ncclAllReduce");
  return out;
}

}  // namespace

const NcclLibrary& NcclLibrary::instance() {
  static const NcclLibrary library = load();
  return library;
}

}  // namespace zerostep
