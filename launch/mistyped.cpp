#include "launch/mistyped.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/nearest_name.h"
#include "base/program_name.h"

namespace zerostep {
namespace {

// Words that people try where there is no such command, and the nearest thing that exists.
struct MeantInstead {
  std::string_view words, nearest;
};
constexpr MeantInstead kMeantInstead[] = {
    {"bench train", "`zerostep train FILE --set run.steps=20 --set wall_clock_breakdown=true` measures a step"},
    {"bench step", "`zerostep train FILE --set run.steps=20 --set wall_clock_breakdown=true` measures a step"},
    {"classify", "`zerostep predict --model MODEL --input FILE --output FILE` gives the classes of texts"},
    {"infer", "`zerostep predict --model MODEL --input FILE --output FILE` gives the classes of texts"},
    {"inspect data", "`zerostep inspect batches FILE` prints what `train` sees"},
    {"inspect batch", "`zerostep inspect batches FILE` prints what `train` sees"},
    {"inspect config", "`zerostep config FILE` prints the resolved configuration"},
    {"inspect plan", "`zerostep plan FILE` prints the plan of a step"},
    {"evaluate", "`zerostep eval FILE` evaluates"},
    {"test", "`zerostep eval FILE` evaluates"},
    {"resume", "`zerostep train FILE --resume` goes on"},
    {"finetune", "`zerostep train FILE` with model.path in the file goes on from a model"},
    {"convert", "`zerostep export CHECKPOINT HF_DIR` makes a Hugging Face directory of a checkpoint"},
    {"save", "`zerostep export CHECKPOINT HF_DIR` makes a Hugging Face directory of a checkpoint"},
    {"sample", "`zerostep generate --model MODEL --prompt TEXT` writes text"},
    {"help", "`zerostep --help` lists the commands"},
    {"version", "`zerostep --version` prints it; a checkpoint's manifest.json names the program that wrote it"},
};

std::vector<std::string> names_of_commands(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App* one) { return !one->get_group().empty(); }))  // those that help shows
    out.push_back(sub->get_name());
  return out;
}

std::vector<std::string> names_of_options(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) out.push_back("--" + name);
  return out;
}

std::string nearest_of(const std::string& name, const std::vector<std::string>& names) {
  const std::vector<std::string_view> views(names.begin(), names.end());
  return std::string(nearest_name(name, views));
}

// Of a command, or of a sub-command of `app` ("inspect"): there is none of this name.
std::string unknown_command(const CLI::App& app, const std::string& name) {
  const std::string before = app.get_parent() == nullptr ? "" : app.get_name() + " ";
  const std::vector<std::string> names = names_of_commands(app);
  std::string text = fmt::format("there is no command '{}{}'", before, name);
  for (const MeantInstead& known : kMeantInstead)
    if (known.words == before + name) return text + fmt::format(" in this version: {}", as_called(known.nearest));
  if (const std::string nearest = nearest_of(name, names); !nearest.empty())
    return text + fmt::format(": is '{}{}' meant?", before, nearest);
  return text + fmt::format("; {} {}", before.empty() ? "the commands are" : before + "has", fmt::join(names, ", "));
}

// "there is no option --worlds; the nearest is --world" for each that the command has not.
std::string unknown_options(const CLI::App& app, int argc, char** argv) {
  const std::vector<std::string> names = names_of_options(app);
  std::string text;
  for (int i = 1; i < argc; ++i) {
    const std::string given = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    if (!given.starts_with("--") || std::find(names.begin(), names.end(), given) != names.end()) continue;
    text += fmt::format("{}there is no option {}", text.empty() ? "" : "; ", given);
    if (const std::string nearest = nearest_of(given, names); !nearest.empty()) text += fmt::format("; the nearest is {}", nearest);
  }
  return text;
}

}  // namespace

std::string argument_error(const CLI::App& commands, std::string text, int argc, char** argv) {
  // The command as far as it is known, and the word behind it.
  const CLI::App* app = &commands;
  std::string command;
  int at = 1;
  for (; !app->get_subcommands().empty(); ++at) {
    app = app->get_subcommands().front();
    command += " " + app->get_name();
  }
  const bool expects_command = !names_of_commands(*app).empty();
  if (expects_command && at < argc && argv[at][0] != '-')
    text = unknown_command(*app, argv[at]);
  else if (expects_command && at == argc)
    text = fmt::format("{}{} needs a command: {}", program_name(), command, fmt::join(names_of_commands(*app), ", "));
  else if (const std::string unknown = unknown_options(*app, argc, argv); !unknown.empty())
    text = unknown;
  return fmt::format("{} (`{}{} --help` says more)", text, program_name(), command);
}

}  // namespace zerostep
