#include "experiments/report/report.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "base/format.h"
#include "experiments/plot/grouping.h"
#include "experiments/plot/svg_canvas.h"
#include "experiments/plot/ticks.h"
#include "experiments/plot/view_parts.h"
#include "experiments/report/report_page.h"

namespace zerostep {
namespace {

std::string text_cell(const std::string& text, const char* kind = "text") {
  return fmt::format("<td class=\"{}\">{}</td>", kind, xml_text(text));
}

// A run's name, which a narrow page breaks after its commas and slashes.
std::string name_cell(const std::string& name) {
  std::string text;
  for (char c : xml_text(name)) {
    text += c;
    if (c == ',' || c == '/') text += "<wbr>";
  }
  return "<td class=\"text\">" + text + "</td>";
}

// `shown` as the text of a value; the value itself is what a table is sorted by.
std::string value_cell(double value, const std::string& shown) {
  if (!std::isfinite(value)) return "<td data-v=\"\"></td>";
  return fmt::format("<td data-v=\"{}\">{}</td>", round_trip(value), xml_text(shown));
}

std::string loss_cell(double value) { return value_cell(value, fmt::format("{:.5g}", value)); }
std::string bytes_cell(double value) { return value_cell(value, short_value(value, AxisUnit::Bytes)); }
std::string seconds_cell(double value) { return value_cell(value, human_duration(value)); }
std::string count_cell(double value) { return value_cell(value, std::isfinite(value) ? grouped(std::llround(value)) : ""); }

std::string state_cell(const RunSummary& run) {
  return fmt::format("<td class=\"text\"><span class=\"state {}\" title=\"{}\">{}</span></td>", name_of(run.state),
                     xml_text(run.is_archived && run.why.empty() ? run.path : run.why), run.state_text());
}

// A table's beginning; heads whose text begins with '<' stand to the left.
std::string table_head(const std::vector<std::string>& heads, bool is_sortable) {
  std::string out = fmt::format("<div class=\"scroll\"><table{}><thead><tr>", is_sortable ? " class=\"sortable\"" : "");
  for (const std::string& head : heads)
    out += head.starts_with('<') ? fmt::format("<th class=\"text\">{}</th>", xml_text(head.substr(1))) : "<th>" + xml_text(head) + "</th>";
  return out + "</tr></thead><tbody>\n";
}
constexpr const char* kTableEnd = "</tbody></table></div>\n";

std::string runs_table(const Summary& summary) {
  std::vector<std::string> heads{"<run"};
  for (const std::string& key : summary.telling) heads.push_back("<" + short_key(key));
  for (const char* head : {"<state", "steps", "final loss", "best evaluation loss"}) heads.emplace_back(head);
  if (summary.has_accuracies()) heads.emplace_back("best accuracy");
  for (const char* head : {"time", "tokens/s", "device memory"}) heads.emplace_back(head);
  std::string out = "<h2>Runs</h2>\n" + table_head(heads, true);
  for (const RunSummary& run : summary.runs) {
    out += "<tr>" + name_cell(run.name);
    for (const std::string& key : summary.telling) out += text_cell(summary.value_of(run, key));
    out += state_cell(run);
    out += value_cell(static_cast<double>(run.steps),
                      run.total_steps > run.steps ? grouped(run.steps) + " / " + grouped(run.total_steps) : grouped(run.steps));
    // What has diverged stands last however the table is sorted.
    out += run.has_diverged ? fmt::format("<td data-v=\"\">{}</td>", run.final_loss_text())
                            : value_cell(run.final_loss, run.final_loss_text());
    out += loss_cell(run.best_eval_loss);
    if (summary.has_accuracies()) out += loss_cell(run.best_eval_accuracy);
    out += seconds_cell(run.seconds);
    out += value_cell(run.tokens_per_second, human_count(run.tokens_per_second)) + bytes_cell(run.device_peak_bytes) + "</tr>\n";
  }
  return out + kTableEnd +
         "<p class=\"pale\">Final loss: mean of the last 5 % of the rows that have a loss. A click on a head sorts by it; a state says "
         "more under a "
         "pointer.</p>\n";
}

std::string best_runs(const Summary& summary) {
  if (summary.runs.size() < 2) return "";
  const std::vector<Ranking> rankings = summary.rankings(5);
  const bool has_others = rankings.size() > 1 || !summary.unranked().empty();
  std::string out;
  for (const Ranking& ranking : rankings) {
    if (ranking.best.empty()) continue;
    std::vector<std::string> heads{"<run", ranking.is_by_evaluation ? "best evaluation loss" : "final loss", "<settings"};
    out += fmt::format("<h2>Best {}{}</h2>\n", ranking.best.size(), has_others ? xml_text(" (" + ranking.of + ")") : "") +
           table_head(heads, false);
    for (size_t i : ranking.best) {
      const RunSummary& run = summary.runs[i];
      std::string settings;
      for (const std::string& key : summary.telling)
        if (const std::string& value = summary.value_of(run, key); !value.empty())
          settings += (settings.empty() ? "" : ", ") + short_key(key) + " " + value;
      out += "<tr>" + name_cell(run.name) + loss_cell(ranking.value(run)) + text_cell(settings, "wrap") + "</tr>\n";
    }
    out += kTableEnd;
  }
  if (!summary.unranked().empty()) out += fmt::format("<p>{}</p>\n", xml_text(unranked_text(summary)));
  return out;
}

// A table of keys and how many runs have each value; `values` gives those of a run.
std::string table_of_keys(const Summary& summary, const std::vector<std::string>& keys,
                          std::vector<std::string> RunSummary::*values_of_run) {
  std::string out = table_head({"<key", "<values (runs)"}, false);
  for (size_t k = 0; k < keys.size(); ++k) {
    std::map<std::string, int64_t> counts;
    int64_t unknown = 0;
    for (const RunSummary& run : summary.runs) run.unknown_keys.contains(keys[k]) ? ++unknown : ++counts[(run.*values_of_run)[k]];
    std::string values;
    int told = 0;
    for (const auto& [value, count] : counts) {
      if (told++ == 12) {
        values += fmt::format(" and {} more", counts.size() - 12);
        break;
      }
      values += fmt::format("{}{} ({})", values.empty() ? "" : ", ", value.empty() ? "not set" : value, count);
    }
    if (unknown > 0) values += fmt::format(", not known ({})", unknown);
    out += "<tr>" + text_cell(keys[k]) + text_cell(values, "wrap") + "</tr>\n";
  }
  return out + kTableEnd;
}

std::string differing(const Summary& summary) {
  if (summary.runs.size() < 2) return "";
  if (summary.keys.empty()) return "<h2>Keys that differ</h2>\n<p>None: the runs have the same configuration.</p>\n";
  std::string out = "<h2>Keys that differ</h2>\n" + table_of_keys(summary, summary.keys, &RunSummary::values);
  if (!summary.following.empty())
    out += fmt::format("<details><summary>{} that {} from these</summary>\n{}</details>\n",
                       counted(std::ssize(summary.following), "more key"), summary.following.size() == 1 ? "follows" : "follow",
                       table_of_keys(summary, summary.following, &RunSummary::following));
  return out;
}

std::string common_loss(const Summary& summary) {
  if (summary.runs.size() < 2) return "";
  constexpr const char* kHead = "<h2>Time to a common loss</h2>\n";
  if (!std::isfinite(summary.common_loss)) return fmt::format("{}<p>None: {}.</p>\n", kHead, xml_text(summary.why_no_common_loss));
  std::string out = fmt::format(
      "{}<p>Until the mean of a twentieth of a run's rows that have a loss is {:.5g} or less, as it is in "
      "every run that neither failed nor was killed nor diverged.</p>\n",
      kHead, summary.common_loss);
  out += table_head({"<run", "steps", "time", "forward passes"}, true);
  for (const RunSummary& run : summary.runs)
    if (!run.is_archived && run.has_begun)
      out += "<tr>" + name_cell(run.name) + count_cell(run.steps_to_common) + seconds_cell(run.seconds_to_common) +
             count_cell(run.forwards_to_common) + "</tr>\n";
  return out + kTableEnd + "<p class=\"pale\">A backward pass counts as 2 forward passes.</p>\n";
}

std::string failures(const Summary& summary) {
  std::string rows;
  for (const RunSummary& run : summary.runs)
    if (is_broken(run.state) || run.state == RunState::Interrupted || run.state == RunState::Queued)
      rows += "<tr>" + name_cell(run.name) + state_cell(run) + count_cell(static_cast<double>(run.steps)) +
              text_cell(run.why.empty() ? "it ended without a word" : run.why, "wrap") + "</tr>\n";
  if (rows.empty()) return "";
  return "<h2>Runs that did not end</h2>\n" + table_head({"<run", "<state", "steps", "<why"}, false) + rows + kTableEnd;
}

std::string unread_files(const Summary& summary) {
  std::string rows;
  for (const RunSummary& run : summary.runs)
    if (!run.unread.empty()) rows += "<tr>" + name_cell(run.name) + text_cell(run.unread, "wrap") + "</tr>\n";
  if (rows.empty()) return "";
  return "<h2>Files that could not be read</h2>\n" + table_head({"<run", "<what"}, false) + rows + kTableEnd;
}

std::string memory(const Summary& summary) {
  struct Tier {
    const char* name;
    double RunSummary::*measured;
    double RunSummary::*planned;
  };
  std::string rows;
  for (const RunSummary& run : summary.runs)
    for (const Tier& tier : {Tier{"device", &RunSummary::device_peak_bytes, &RunSummary::planned_device_peak_bytes},
                             Tier{"host", &RunSummary::host_peak_bytes, &RunSummary::planned_host_peak_bytes},
                             Tier{"file", &RunSummary::file_peak_bytes, &RunSummary::planned_file_peak_bytes}}) {
      const double measured = run.*tier.measured, planned = run.*tier.planned;
      if (!(measured > 0)) continue;
      const double share = planned > 0 ? 100 * measured / planned : std::nan("");
      rows += "<tr>" + name_cell(run.name) + text_cell(tier.name) + bytes_cell(measured) + bytes_cell(planned) +
              value_cell(share, fmt::format("{:.1f} %", share)) + "</tr>\n";
    }
  if (rows.empty()) return "";
  return "<h2>Memory against plan</h2>\n" + table_head({"<run", "<tier", "measured", "planned", "share"}, true) + rows + kTableEnd;
}

// What each sweep was to answer, and what it has tried for that.
std::string questions(const std::vector<SweepQuestion>& all) {
  std::string out;
  for (const SweepQuestion& question : all) {
    out += fmt::format("<h2>What was asked{}</h2>\n", question.name.empty() ? "" : xml_text(": " + question.name));
    if (!question.asks.empty()) out += fmt::format("<p>{}</p>\n", xml_text(capital(question.asks)));
    out += "<dl>\n";
    for (size_t i = 0; i < question.parts.size(); ++i) {
      const auto& [name, text] = question.parts[i];
      if (i == 0 || question.parts[i - 1].first != name) out += fmt::format("<dt>{}</dt>", xml_text(name));
      out += fmt::format("<dd>{}</dd>\n", xml_text(text));
    }
    out += "</dl>\n";
  }
  return out;
}

}  // namespace

std::string report_html(const Report& report, const Summary& summary) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += fmt::format("<title>{}</title>\n<style>{}</style></head><body>\n<h1>{}</h1>\n", xml_text(report.title), report_style(),
                     xml_text(report.title));
  out += fmt::format("<p class=\"pale\">{}, {}</p>\n<p><code>{}</code></p>\n", counted(std::ssize(summary.runs), "run"),
                     xml_text(report.made), xml_text(report.asked));
  out += questions(report.questions);
  for (const std::string& note : report.notes) out += fmt::format("<p>{}</p>\n", xml_text(note));
  out += best_runs(summary);
  for (const Report::Figure& figure : report.figures)
    out += fmt::format("<figure id=\"{0}\"><div class=\"wide\">{1}</div><div class=\"narrow\">{2}</div></figure>\n", xml_text(figure.name),
                       figure.wide, figure.narrow);
  out += runs_table(summary) + failures(summary) + unread_files(summary) + common_loss(summary) + differing(summary) + memory(summary);
  out += fmt::format("<script>{}</script>\n</body></html>\n", report_script());
  return out;
}

}  // namespace zerostep
