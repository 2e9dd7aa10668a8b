#include "experiments/plot/grouping.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/first_names.h"
#include "base/nearest_name.h"
#include "experiments/plot/colors.h"
#include "runtime/config/schema.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

constexpr const char* kModePath = "step.mode";  // whose values speak for themselves

std::optional<double> as_number(const std::string& text) {
  const double value = csv_number(text.data(), text.data() + text.size());
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

// The number that begins at an index of a text, which is moved behind it; a sign belongs to it where a blank, "=" or nothing stands before.
std::optional<double> number_at(std::string_view text, size_t& at) {
  const auto is_digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  const bool has_sign = at < text.size() && text[at] == '-' && (at == 0 || text[at - 1] == ' ' || text[at - 1] == '=');
  if (!is_digit(at + (has_sign ? 1 : 0))) return std::nullopt;
  double value = std::numeric_limits<double>::infinity();  // stays so of a number that a double has no room for
  at = static_cast<size_t>(std::from_chars(text.data() + at, text.data() + text.size(), value).ptr - text.data());
  return value;
}

// Whether a text comes before another, where numbers within them count as such: "queries 8" before "queries 32", "lr 1e-05" before "lr
// 0.1". Numbers come before anything else.
bool comes_before(std::string_view a, std::string_view b) {
  size_t i = 0, k = 0;
  while (i < a.size() && k < b.size()) {
    const std::optional<double> left = number_at(a, i), right = number_at(b, k);
    if (left.has_value() != right.has_value()) return left.has_value();
    if (left) {
      if (*left != *right) return *left < *right;
      continue;
    }
    if (a[i] != b[k]) return a[i] < b[k];
    ++i;
    ++k;
  }
  if ((i < a.size()) != (k < b.size())) return k < b.size();
  return a < b;  // "1e-5" and "1e-05"
}

// Groups of runs with the same name. In the order of their values where all are numbers, then colored by it; else in that of their letters.
Grouping group_by_names(const std::vector<std::string>& names, const std::string& title) {
  Grouping out;
  out.title = title;
  for (const std::string& name : names)
    if (std::find(out.labels.begin(), out.labels.end(), name) == out.labels.end()) out.labels.push_back(name);
  const bool are_numbers = std::all_of(out.labels.begin(), out.labels.end(), [](const std::string& l) { return as_number(l).has_value(); });
  std::stable_sort(out.labels.begin(), out.labels.end(), [&](const std::string& a, const std::string& b) {
    return are_numbers ? *as_number(a) < *as_number(b) : comes_before(a, b);
  });
  const size_t count = out.labels.size();
  for (size_t i = 0; i < count; ++i) out.colors.push_back(are_numbers && count > 2 ? color_of_order(i, count) : color_of_name(i, count));
  for (const std::string& name : names)
    out.of_run.push_back(static_cast<size_t>(std::find(out.labels.begin(), out.labels.end(), name) - out.labels.begin()));
  return out;
}

// Keys that say more about a run stand first.
int rank_of(const std::string& path) {
  if (schema::is_of_watching(path)) return 9;
  if (path == kModePath) return 0;
  if (path == "step.queries") return 1;
  if (path == "optimizer.type") return 2;
  if (path == "optimizer.params.lr") return 3;
  if (path.starts_with("step.")) return 4;
  if (path.starts_with("model.")) return 5;
  if (path.starts_with("optimizer.")) return 6;
  return path.starts_with("run.") ? 8 : 7;
}

}  // namespace

std::string short_key(const std::string& path) {
  const size_t dot = path.rfind('.');
  if (dot == path.npos) return path;
  std::string last = path.substr(dot + 1);
  for (const char* vague : {"device", "enabled", "kind", "path", "start", "end"})
    if (last == vague) return path.substr(path.rfind('.', dot - 1) + 1);  // npos + 1 is 0
  return last;
}

std::vector<size_t> Grouping::order() const {
  std::vector<size_t> out(of_run.size());
  std::iota(out.begin(), out.end(), size_t{0});
  std::erase_if(out, [&](size_t run) { return of_run[run] == kNoGroup; });
  std::stable_sort(out.begin(), out.end(), [&](size_t a, size_t b) { return of_run[a] < of_run[b]; });
  return out;
}

Grouping group_each(const std::vector<PlotRun>& runs) {
  Grouping out;
  const Grouping settings = group_by_settings(runs);
  // Then a run has the color that its settings have where they are compared.
  const bool are_few = settings.labels.size() > 1 && (settings.labels.size() <= kNamedColors || settings.labels.size() == runs.size());
  for (size_t i = 0; i < runs.size(); ++i) {
    out.labels.push_back(runs[i].record.name);
    out.colors.push_back(are_few ? settings.color(i) : color_of_name(i, runs.size()));
    out.of_run.push_back(i);
  }
  return out;
}

Grouping group_by_key(const std::vector<PlotRun>& runs, const std::string& path, bool names_key) {
  std::vector<size_t> all(runs.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return group_by_key(runs, all, path, names_key);
}

Grouping group_by_key(const std::vector<PlotRun>& runs, std::span<const size_t> among, const std::string& path, bool names_key) {
  std::vector<std::string> names;
  for (size_t i : among) {
    const std::string value = runs[i].value(path);
    names.push_back(value.empty() ? "without" : value);
  }
  Grouping out = group_by_names(names, short_key(path));
  std::vector<size_t> of_run(runs.size(), kNoGroup);
  for (size_t k = 0; k < among.size(); ++k) of_run[among[k]] = out.of_run[k];
  out.of_run = std::move(of_run);
  for (std::string& label : out.labels)
    if (label == "without" || (names_key && path != kModePath))
      label = label == "without" ? "without " + short_key(path) : short_key(path) + " " + label;
  return out;
}

std::vector<std::string> telling_keys(const std::vector<PlotRun>& runs, bool with_seed) { return telling_keys(keys_of(runs), with_seed); }

std::vector<std::string> telling_keys(const std::vector<RunKeys>& keys, bool with_seed) {
  std::vector<std::string> paths = differing_keys(keys), out;
  if (!with_seed) std::erase(paths, "seed");
  std::stable_sort(paths.begin(), paths.end(), [](const auto& a, const auto& b) { return rank_of(a) < rank_of(b); });
  // A key counts where it splits what the keys before have left together.
  std::vector<std::string> so_far(keys.size());
  for (const std::string& path : paths) {
    std::vector<std::string> finer = so_far;
    for (size_t i = 0; i < keys.size(); ++i) finer[i] += "," + keys[i].value(path);
    if (std::set(finer.begin(), finer.end()).size() == std::set(so_far.begin(), so_far.end()).size()) continue;
    so_far = std::move(finer);
    out.push_back(path);
  }
  return out;
}

Grouping group_by_settings(const std::vector<PlotRun>& runs) {
  std::vector<std::string> paths = telling_keys(runs, false);
  std::erase_if(paths, schema::is_of_watching);
  // The values of each key among the runs of a mode; those of another mode are no choice that a run of this one had.
  std::map<std::pair<std::string, std::string>, std::set<std::string>> seen;
  for (const std::string& path : paths)
    for (const PlotRun& run : runs) seen[{run.value(kModePath), path}].insert(run.value(path));
  std::vector<std::string> names;
  for (const PlotRun& run : runs) {
    std::string name, without;
    for (const std::string& path : paths) {
      const std::string value = run.value(path);
      if (path != kModePath && seen[{run.value(kModePath), path}].size() < 2) continue;
      if (value.empty() && without.empty()) without = "without " + short_key(path);
      if (value.empty()) continue;
      name += (name.empty() ? "" : ", ") + (path == kModePath ? value : short_key(path) + " " + value);
    }
    // A file without a configuration stands for itself.
    if (run.record.config.is_null()) name = run.record.name;
    if (name.empty()) name = without;
    names.push_back(!name.empty() ? name : runs.size() == 1 ? run.record.name : "all alike");
  }
  return group_by_names(names, "");
}

namespace {

// What a key's name that no run has may mean: those whose last part, or path, is near, nearest first.
std::vector<std::string> meant_keys(const std::set<std::string>& known, const std::string& text) {
  constexpr size_t kMostMeant = 3;
  std::vector<std::pair<size_t, std::string>> near;
  for (const std::string& path : known) {
    size_t distance = SIZE_MAX;
    for (const std::string_view name : {std::string_view(path), std::string_view(path).substr(path.rfind('.') + 1)})
      if (!near_names(text, std::array{name}).empty()) distance = std::min(distance, edit_distance(text, name, path.size() + text.size()));
    if (distance < SIZE_MAX) near.emplace_back(distance, path);
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> out;
  for (auto& [distance, path] : near)
    if (out.size() < kMostMeant) out.push_back(std::move(path));
  return out;
}

// "a", "a or b", "a, b or c".
std::string one_of(const std::vector<std::string>& names) {
  std::string out = names[0];
  for (size_t i = 1; i < names.size(); ++i) out += (i + 1 < names.size() ? ", " : " or ") + names[i];
  return out;
}

}  // namespace

std::string path_of_key(const std::vector<PlotRun>& runs, const std::string& text) {
  std::set<std::string> known;
  for (const PlotRun& run : runs)
    for (const auto& [path, value] : run.values()) known.insert(path);
  if (known.contains(text)) return text;
  std::vector<std::string> found;
  for (const std::string& path : known)
    if (path.ends_with("." + text)) found.push_back(path);
  if (found.size() == 1) return found[0];
  if (found.size() > 1)
    fail_input("--by {} may mean {}: give as many of its last parts as tell them apart", text, fmt::join(found, " or "));
  if (const std::vector<std::string> meant = meant_keys(known, text); !meant.empty())
    fail_input("--by {}: no run has such a key in its configuration; did you mean {}?", text, one_of(meant));
  const std::vector<std::string> telling = telling_keys(runs, true), all(known.begin(), known.end());
  fail_input("--by {}: no run has such a key in its configuration. {}", text,
             telling.empty() ? "The runs do not differ in any key; they have " + first_names(all)
                             : "What tells the runs apart is " + first_names(telling));
}

}  // namespace zerostep
