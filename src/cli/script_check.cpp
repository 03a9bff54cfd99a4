#include "script_check.hpp"

#include "script_kinds.hpp"
#include "script_names.hpp"
#include "script_values.hpp"

#include <chorus/protocol/close_code.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <tuple>

namespace cli::script {

namespace json = boost::json;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t most_complaints = 100;
constexpr std::size_t most_steps = 100'000;
constexpr std::size_t most_files_deep = 16;
constexpr std::size_t most_includes = 1000; // counted each time

std::string in_quotes(std::string_view name) { return '\'' + std::string(name) + '\''; }

class checker {
public:
  explicit checker(const std::vector<std::string> &variables)
      : variables_(variables.begin(), variables.end()) {}

  std::vector<step> file(const std::string &name, const std::string &path, std::string_view text) {
    std::error_code ignored;
    files_.push_back({name, path.empty() ? fs::path() : fs::weakly_canonical(path, ignored)});
    std::vector<step> out;
    if (const auto document =
            read_document(std::make_shared<const std::string>(name), text, complaints_)) {
      if (document->value.is_array())
        out = steps(*document);
      else
        complain(document->at, "a script is an array of steps: [ {\"cmd\": ...}, ... ]");
    }
    files_.pop_back();
    return out;
  }

  // What nothing reads of the variables given; a set with a default reads its own.
  std::vector<std::string> unread(const std::vector<std::string> &given) const {
    std::set<std::string> read = defaults_;
    for (const auto &[r, at] : references_)
      if (r.root == root::var)
        read.insert(std::get<std::string>(r.path.front()));
    std::vector<std::string> out;
    for (const auto &name : given)
      if (!read.contains(name))
        out.push_back("--set " + name + " changes nothing: no step reads var[\"" + name + "\"]" +
                      near(name, read));
    return out;
  }

  // What can be said only when all is read.
  void cross() {
    for (const auto &[r, at] : references_) {
      const auto &name = std::get<std::string>(r.path.front());
      if (r.root == root::env) {
        if (!std::getenv(name.c_str()))
          complain(at, "the environment has no '" + name + "'; set it, or take var[\"" + name +
                           "\"] and --set " + name + "=...");
      } else if (r.root == root::var) {
        if (!variables_.contains(name))
          complain(at, "nothing sets the variable '" + name + "': --set " + name +
                           "=... does, or a step \"set\"" + near(name, variables_));
      } else if (!results_.contains(name) && !strangers_) {
        complain(at,
                 "no step gives the result '" + name +
                     "': results have the name of a command of this script, or that of a \"save\"" +
                     near(name, results_));
      }
    }
    for (const auto &[name, at] : used_)
      if (!opened_.contains(name) && !open_names_ && !strangers_)
        complain(at,
                 "no connect_gate opens the connection " + in_quotes(name) + near(name, opened_));
  }

  std::vector<complaint> take() {
    std::stable_sort(complaints_.begin(), complaints_.end(), [](const auto &a, const auto &b) {
      return std::tie(*a.at.file, a.at.line, a.at.column) <
             std::tie(*b.at.file, b.at.line, b.at.column);
    });
    return std::move(complaints_);
  }

private:
  struct source {
    std::string name;
    fs::path path;
  };

  static std::string near(std::string_view wrong, const std::set<std::string> &known) {
    const auto best = nearest(wrong, {known.begin(), known.end()});
    return best.empty() ? std::string() : "; did you mean " + in_quotes(best) + '?';
  }

  void complain(const place &at, std::string sentence) {
    if (complaints_.size() < most_complaints)
      complaints_.push_back({at, std::move(sentence)});
  }

  std::vector<step> steps(const node &list) {
    std::vector<step> out;
    for (const auto &one : list.elements) {
      if (++count_ > most_steps) {
        if (count_ == most_steps + 1)
          complain(one.at, "a script has at most " + std::to_string(most_steps) +
                               " steps, included files counted each time; use \"repeat\"");
        break;
      }
      if (auto s = read_step(one))
        out.push_back(std::move(*s));
    }
    return out;
  }

  std::optional<step> read_step(const node &from) {
    if (!from.value.is_object()) {
      complain(from.at, "a step is an object with a \"cmd\", not " + shown(from.value));
      return {};
    }
    const auto *cmd = from.find("cmd");
    if (!cmd) {
      std::string meant;
      for (const auto &m : from.members)
        if (m.name.size() < 6 && edit_distance(m.name, "cmd") <= 2)
          meant = "; did you mean \"cmd\" by " + in_quotes(m.name) + '?';
      complain(from.at, "this step has no \"cmd\"" + meant);
      return {};
    }
    const auto *name = cmd->content.value.if_string();
    if (!name) {
      complain(cmd->content.at, "\"cmd\" takes the name of a command, not " +
                                    shown(cmd->content.value) + "; there are " +
                                    listed(command_names()));
      return {};
    }
    const auto *what = find_command(text_of(cmd->content.value));
    if (!what) {
      complain(cmd->content.at, "unknown command " + in_quotes(text_of(cmd->content.value)) +
                                    suggestion(text_of(cmd->content.value), command_names()));
      strangers_ = true;
      return {};
    }
    step out;
    out.what = what;
    out.at = from.at;
    const auto before = complaints_.size();
    members(from, out);
    needs(from, out);
    note_names(from, out);
    if (complaints_.size() == before)
      meaning(from, out);
    return out;
  }

  void members(const node &from, step &out) {
    std::set<std::string_view> seen;
    for (const auto &m : from.members) {
      const auto *f = out.what->find(m.name);
      if (!seen.insert(m.name).second) {
        complain(m.at, in_quotes(m.name) + " is given twice in one step");
        continue;
      }
      if (!f) {
        complain(m.at, "unknown field " + in_quotes(m.name) + " of " + std::string(out.what->name) +
                           suggestion(m.name, out.what->field_names()));
        continue;
      }
      if (const auto wrong = check_value(*f, m.content.value, true)) {
        complain(place_in(m.content, *wrong), wrong->sentence);
        continue;
      }
      if (f->name == "comment")
        out.comment = text_of(m.content.value);
      else if (f->name == "save")
        out.save = text_of(m.content.value);
      else if (f->type == kind::steps)
        out.steps = steps(m.content);
      else if (f->type == kind::file)
        out.steps = include(m.content);
      else if (f->name != "cmd")
        keep(m, *f, out);
    }
  }

  static place place_in(const node &value, const fault &wrong) {
    if (wrong.element && *wrong.element < value.elements.size())
      return value.elements[*wrong.element].at;
    if (const auto *m = wrong.member.empty() ? nullptr : value.find(wrong.member))
      return m->content.at;
    return value.at;
  }

  void keep(const node::member &m, const field &f, step &out) {
    if (f.type != kind::name)
      note_references(m.content);
    out.arguments.insert_or_assign(m.name, m.content.value);
    out.places.emplace_back(m.name, m.content.at);
  }

  void note_references(const node &v) {
    if (v.value.is_string()) {
      auto all = find_references(text_of(v.value));
      if (!all.complaint.empty())
        complain(v.at, all.complaint);
      for (auto &r : all.found)
        references_.emplace_back(std::move(r), v.at);
    }
    for (const auto &one : v.elements)
      note_references(one);
    for (const auto &one : v.members)
      note_references(one.content);
  }

  void needs(const node &from, const step &out) {
    const auto has = [&](std::string_view name) { return from.find(name) != nullptr; };
    for (const auto &f : out.what->fields)
      if (f.required && !has(f.name))
        complain(from.at, std::string(out.what->name) + " needs \"" + std::string(f.name) +
                              "\": " + std::string(f.help) + meant_by(from, out, f.name));
    for (const auto &group : out.what->exactly_one) {
      const auto number = std::count_if(group.begin(), group.end(), has);
      if (number != 1)
        complain(from.at, std::string(out.what->name) + " needs " + (number == 0 ? "" : "only ") +
                              "one of " + listed(group, "or"));
    }
    for (const auto &group : out.what->at_least_one)
      if (std::none_of(group.begin(), group.end(), has))
        complain(from.at,
                 std::string(out.what->name) + " needs one or more of " + listed(group, "or"));
    for (const auto &[a, b] : out.what->never_both)
      if (has(a) && has(b))
        complain(from.find(b)->at, in_quotes(a) + " and " + in_quotes(b) + " can't stand in one " +
                                       std::string(out.what->name));
  }

  // A field that is missing because it is misspelt.
  static std::string meant_by(const node &from, const step &out, std::string_view missing) {
    for (const auto &m : from.members)
      if (!out.what->find(m.name) && nearest(m.name, {missing}) == missing)
        return "; did you mean it by " + in_quotes(m.name) + '?';
    return {};
  }

  // What the step gives to others and takes from them.
  void note_names(const node &from, const step &s) {
    results_.emplace(s.what->name);
    if (!s.save.empty())
      results_.insert(s.save);
    const auto named = [&](const char *argument, std::string_view otherwise) {
      const auto *v = s.arguments.if_contains(argument);
      return v ? text_of(*v) : std::string(otherwise);
    };
    if (s.what->verb == verb::set) {
      variables_.insert(named("name", {}));
      if (s.arguments.contains("default"))
        defaults_.insert(named("name", {}));
    } else if (s.what->verb == verb::repeat)
      variables_.insert(named("index", "i"));
    else if (s.what->verb == verb::parallel)
      variables_.insert(named("index", "copy"));
    if (!s.what->find("connection") || s.arguments.contains("value"))
      return;
    const auto connection = named("connection", "main");
    const bool known = find_references(connection).found.empty();
    if (s.what->verb != verb::connect_gate) {
      const auto *at = from.find("connection");
      if (known)
        used_.emplace_back(connection, at ? at->content.at : s.at);
    } else if (known) {
      opened_.insert(connection);
    } else {
      open_names_ = true;
    }
  }

  // What is right by itself, but not together.
  void meaning(const node &from, const step &s) {
    const auto literal = [&](std::string_view argument) {
      const auto *m = from.find(argument);
      return !m || !m->content.value.is_string() ||
             find_references(text_of(m->content.value)).found.empty();
    };
    if (s.what->verb == verb::connect_gate && literal("host") && literal("port")) {
      if (const auto [why, at] = gate_complaint(s.arguments); !why.empty())
        complain(s.place_of(at), why);
    } else if (s.what->verb == verb::close) {
      const auto *code = s.arguments.if_contains("code");
      if (code && code->is_number())
        if (const auto why = close_complaint(integer_of(*code)); !why.empty())
          complain(s.place_of("code"), why);
    }
  }

  std::vector<step> include(const node &named) {
    const auto &from = files_.back();
    const fs::path wanted(text_of(named.value));
    const auto path =
        wanted.is_absolute() || from.path.empty() ? wanted : from.path.parent_path() / wanted;
    std::error_code ignored;
    const auto canonical = fs::weakly_canonical(path, ignored);
    for (std::size_t i = 0; i < files_.size(); ++i)
      if (!files_[i].path.empty() && files_[i].path == canonical) {
        std::string way;
        for (; i < files_.size(); ++i)
          way += files_[i].name + " -> ";
        complain(named.at, "this file would include itself: " + way + wanted.string());
        return {};
      }
    if (files_.size() == most_files_deep) {
      complain(named.at, "files include each other at most 16 deep");
      return {};
    }
    if (++includes_ > most_includes) {
      if (includes_ == most_includes + 1)
        complain(named.at, "a script includes at most " + std::to_string(most_includes) +
                               " files, counted each time; use \"repeat\"");
      return {};
    }
    std::string why;
    const auto text = read_file(path.string(), why);
    if (!text) {
      complain(named.at, why);
      return {};
    }
    // As one would name it from where the program was started.
    const auto shown_name = wanted.is_absolute() || from.path.empty()
                                ? wanted
                                : fs::path(from.name).parent_path() / wanted;
    return file(shown_name.string(), path.string(), *text);
  }

  std::vector<source> files_;
  std::set<std::string> variables_;
  std::set<std::string> defaults_; // variables that a set leaves as they are given
  std::set<std::string> results_;
  std::set<std::string> opened_;
  bool strangers_ = false;  // commands that nobody knows, which might have been any
  bool open_names_ = false; // some connect_gate has a name that is known only later
  std::vector<std::pair<std::string, place>> used_;
  std::vector<std::pair<reference, place>> references_;
  std::vector<complaint> complaints_;
  std::size_t count_ = 0;
  std::size_t includes_ = 0;
};

// Those in an include are numbered, those in a repeat or parallel have its number.
void number(std::vector<step> &steps, std::size_t &last, bool own) {
  for (auto &s : steps) {
    s.number = own ? ++last : last;
    number(s.steps, last, own && s.what->verb == verb::include);
  }
}

} // namespace

std::string close_complaint(std::int64_t code) {
  if (chorus::protocol::valid_on_wire(static_cast<std::uint16_t>(code)))
    return {};
  return std::to_string(code) +
         " can't be sent as a close code; 1000 to 1003, 1007 to 1014 and 3000 "
         "to 4999 can";
}

place step::place_of(std::string_view argument) const {
  const auto it = std::find_if(places.begin(), places.end(),
                               [&](const auto &one) { return one.first == argument; });
  return it == places.end() ? at : it->second;
}

std::optional<std::string> read_file(const std::string &path, std::string &why) {
  constexpr std::size_t most = std::size_t{16} << 20;
  std::error_code failed;
  const bool folder = fs::is_directory(path, failed);
  std::ifstream in(path, std::ios::binary);
  if (folder || !in) {
    why = "can't read '" + path + "': " +
          (folder   ? "it is a directory"
           : failed ? failed.message()
                    : "permission denied");
    return {};
  }
  std::string out;
  std::array<char, 16384> piece{};
  while (out.size() <= most && (in.read(piece.data(), piece.size()) || in.gcount() != 0))
    out.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  if (out.size() > most) {
    why = '\'' + path + "' is larger than 16 MiB";
    return {};
  }
  return out;
}

checked check_script(const std::string &name, const std::string &path, std::string_view text,
                     const std::vector<std::string> &variables) {
  checker c(variables);
  checked out;
  out.steps = c.file(name, path, text);
  c.cross();
  out.warnings = c.unread(variables);
  out.complaints = c.take();
  number(out.steps, out.count, true);
  return out;
}

} // namespace cli::script
