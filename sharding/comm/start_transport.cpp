#include "sharding/comm/start_transport.h"

#include "base/cuda/cuda_library.h"
#include "sharding/comm/impl.h"

namespace zerostep {

std::unique_ptr<DeviceTransport> start_transport(const Communicator& group, const Device& device, const char* function,
                                                 const std::string& name, double timeout_seconds, std::shared_ptr<const Fingerprint> call,
                                                 const std::string& advice) {
  const auto check_peers = [impl = group.impl(), call] { impl->check_peers(*call); };
  const auto operation = [call] { return call->describe(); };
  std::unique_ptr<DeviceTransport> transport;
  try {
    reinterpret_cast<StartTransport*>(function_of_cuda_library(function))(
        *device.impl(), {group.rank(), group.size(), name, timeout_seconds, check_peers, operation}, transport);
  } catch (const PeerError&) {
    throw;
  } catch (const RunError& error) {
    group.impl()->abort(error.what() + advice);
    fail_run("{}{}", error.what(), advice);
  } catch (const std::exception& error) {
    group.impl()->abort(error.what());
    throw;
  }
  return transport;
}

}  // namespace zerostep
