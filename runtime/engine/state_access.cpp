#include "runtime/engine/state_access.h"

#include <algorithm>

#include "base/error.h"

namespace zerostep {
namespace {

constexpr int64_t kPartElements =
    int64_t{1} << 20;  // what is cast, or goes to a device of its own memory, passes through buffers of this size

}  // namespace

template <typename Use>
void StateAccess::visit_chunk(const Buffer& chunk, bool changes, const Use& use) {
  Store& store = state_.store();
  store.fetch(chunk, lanes_.communication).wait();
  try {
    use(store.view(chunk));
  } catch (...) {
    store.release(chunk, false, lanes_.communication);
    throw;
  }
  store.release(chunk, changes, lanes_.communication).wait();
}

template <typename Wants, typename Use>
void StateAccess::visit_places(std::span<const StatePlace> places, bool changes, const Wants& wants, const Use& use) {
  settle();
  std::vector<const StatePlace*> sorted;
  for (const StatePlace& place : places)
    if (wants(place)) sorted.push_back(&place);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->chunk < b->chunk; });
  for (auto at = sorted.begin(); at != sorted.end();) {
    const Buffer chunk = (*at)->chunk;
    visit_chunk(chunk, changes, [&](std::byte* data) {
      for (; at != sorted.end() && (*at)->chunk == chunk; ++at) use(**at, data + (*at)->byte_offset);
    });
  }
}

void StateAccess::settle() {
  if (!lanes_.device.is_host()) lanes_.compute.synchronize();
}

void StateAccess::copy_and_wait(void* to, const void* from, int64_t num_bytes) {
  lanes_.device.copy(lanes_.communication, to, from, num_bytes).wait();
}

template <typename Read>
void StateAccess::write(const Read& read, int64_t count, std::byte* target, DType type) {
  const bool is_far = lanes_.device.holds(target);
  if (type == DType::F32 && !is_far) return read(0, count, reinterpret_cast<float*>(target));
  values_.resize(static_cast<size_t>(std::min(kPartElements, count)));
  for (int64_t at = 0; at < count; at += kPartElements) {
    const int64_t n = std::min(kPartElements, count - at), bytes = num_bytes(n, type);
    read(at, n, values_.data());
    std::byte* place = target + num_bytes(at, type);
    const void* values = values_.data();
    if (type != DType::F32) {
      if (is_far) staged_.resize(static_cast<size_t>(bytes));
      std::byte* cast = is_far ? staged_.data() : place;
      host_kernels().cast(values_.data(), DType::F32, cast, type, n, Stream::inline_stream());
      values = cast;
    }
    if (is_far) copy_and_wait(place, values, bytes);
  }
}

void StateAccess::read_values(const std::byte* from, DType type, int64_t count, float* out) {
  const Stream caller = Stream::inline_stream();
  if (!lanes_.device.holds(from)) return host_kernels().cast(from, type, out, DType::F32, count, caller);
  for (int64_t at = 0; at < count; at += kPartElements) {
    const int64_t n = std::min(kPartElements, count - at), bytes = num_bytes(n, type);
    staged_.resize(static_cast<size_t>(bytes));
    copy_and_wait(staged_.data(), from + num_bytes(at, type), bytes);
    host_kernels().cast(staged_.data(), type, out + at, DType::F32, n, caller);
  }
}

void StateAccess::put(const ParameterReader& read, const ParameterInfo& parameter, int64_t begin, int64_t count, std::byte* target,
                      DType type) {
  write([&](int64_t at, int64_t n, float* out) { read(parameter, begin + at, n, out); }, count, target, type);
}

void StateAccess::load(const ParameterReader& read) {
  visit_places(
      places(Elements::Updated), true,
      [](const StatePlace& p) { return p.piece.array == StatePiece::kValues && p.chunk.kind == BufferKind::UpdateState; },
      [&](const StatePlace& p, std::byte* at) { put(read, *p.piece.parameter, p.piece.begin, p.piece.count, at, p.piece.type); });
  for (const FlatGroup& g : layout_.groups)
    visit_chunk({BufferKind::Parameters, g.id}, true, [&](std::byte* at) {
      const auto put_piece = [&](int index, int64_t begin, int64_t offset, int64_t count) {
        put(read, layout_.parameter(g, index), begin, count, at + num_bytes(offset, g.type), g.type);
      };
      if (state_.has_whole_parameters(g.id))
        for (int i = 0; i < g.layout.num_parameters(); ++i) put_piece(i, 0, g.layout.offset(i), g.layout.size(i));
      else
        for (const ShardedState::Piece& p : state_.owned(g.id)) put_piece(p.parameter, p.parameter_offset, p.shard_offset, p.count);
    });
  values_ = {};
}

void StateAccess::load_arrays(const StateReader& read) {
  visit_places(
      places(Elements::Updated), true, [](const StatePlace& p) { return p.piece.array != StatePiece::kValues; },
      [&](const StatePlace& p, std::byte* at) {
        write([&](int64_t begin, int64_t n, float* out) { read(*p.piece.parameter, p.piece.array, p.piece.begin + begin, n, out); },
              p.piece.count, at, DType::F32);
      });
}

void StateAccess::read_parameter(int unit, int index, std::vector<float>& out) {
  const ModelLayout::Place& place = layout_.place(unit, index);
  const FlatGroup& g = layout_.group(place.group);
  const ParameterInfo& parameter = layout_.parameter(g, place.index);
  const auto copy = [&](const std::byte* from, DType type, int64_t begin, int64_t count) {
    read_values(from, type, count, out.data() + begin);
  };
  // Each element comes from the one rank that owns it; the others add -0, which changes no bit of it (+0 would, of -0).
  out.assign(static_cast<size_t>(parameter.num_elements()), -0.0f);
  if (!state_.has_masters(g.id) && state_.has_whole_parameters(g.id)) {
    settle();
    return visit_chunk({BufferKind::Parameters, g.id}, false, [&](const std::byte* at) {
      copy(at + num_bytes(g.layout.offset(place.index), g.type), g.type, 0, parameter.num_elements());
    });
  }
  visit_places(
      places(Elements::Updated), false,
      [&](const StatePlace& p) { return p.piece.parameter == &parameter && p.piece.array == StatePiece::kValues; },
      [&](const StatePlace& p, const std::byte* at) { copy(at, p.piece.type, p.piece.begin, p.piece.count); });
  if (state_.updates_whole_groups()) return;
  const Segment segment{out.data(), out.data(), static_cast<int64_t>(out.size())};
  lanes_.group.all_reduce({&segment, 1}, DType::F32, ReduceOp::Sum, lanes_.communication, "parameter").wait();
}

void StateAccess::copy(std::span<std::byte* const> targets) {
  const std::vector<StatePlace> owned = places(Elements::Owned);
  if (owned.size() != targets.size()) fail_protocol("[state] {} pieces are copied to {} places", owned.size(), targets.size());
  visit_places(
      owned, false, [](const StatePlace&) { return true; },
      [&](const StatePlace& p, const std::byte* at) {
        std::byte* target = nth(targets, &p - owned.data());
        if (lanes_.device.holds(at)) return copy_and_wait(target, at, num_bytes(p.piece.count, p.piece.type));
        host_kernels().cast(at, p.piece.type, target, p.piece.type, p.piece.count, Stream::inline_stream());
      });
}

}  // namespace zerostep
