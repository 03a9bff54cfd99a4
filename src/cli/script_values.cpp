#include "script_values.hpp"

#include "script_kinds.hpp"
#include "script_names.hpp"

#include <boost/json/array.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace cli::script {

namespace json = boost::json;

namespace {

std::string_view name_of(root r) { return r == root::ret ? "ret" : r == root::var ? "var" : "env"; }

bool word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// The key in brackets at `at`, which is moved behind it.
std::optional<key> read_key(std::string_view text, std::size_t &at) {
  auto i = at + 1;
  if (i >= text.size())
    return {};
  if (const char quote = text[i]; quote == '"' || quote == '\'') {
    const auto end = text.find(quote, i + 1);
    if (end == text.npos || end + 1 >= text.size() || text[end + 1] != ']')
      return {};
    at = end + 2;
    return key(std::string(text.substr(i + 1, end - i - 1)));
  }
  const auto end = text.find(']', i);
  if (end == text.npos)
    return {};
  std::int64_t number = 0;
  const auto [last, error] = std::from_chars(text.data() + i, text.data() + end, number);
  if (error != std::errc{} || last != text.data() + end)
    return {};
  at = end + 1;
  return key(number);
}

std::vector<std::string_view> names_in(const json::object &object) {
  std::vector<std::string_view> names;
  for (const auto &m : object)
    names.emplace_back(m.key().data(), m.key().size());
  return names;
}

std::string quoted(const key &k) {
  if (const auto *n = std::get_if<std::int64_t>(&k))
    return '[' + std::to_string(*n) + ']';
  return "[\"" + std::get<std::string>(k) + "\"]";
}

// One step down the path; null, and why.
const json::value *descend(const json::value &from, const key &k, std::string &why) {
  if (const auto *name = std::get_if<std::string>(&k)) {
    const auto *object = from.if_object();
    if (!object) {
      why = "is no object";
      return nullptr;
    }
    const auto *member = object->if_contains(*name);
    if (!member)
      why = "has no member '" + *name + "'" + suggestion(*name, names_in(*object));
    return member;
  }
  const auto index = std::get<std::int64_t>(k);
  const auto *array = from.if_array();
  if (!array) {
    why = "is no array";
    return nullptr;
  }
  const auto size = static_cast<std::int64_t>(array->size());
  const auto at = index < 0 ? index + size : index;
  if (at < 0 || at >= size) {
    why = "has " + std::to_string(size) + " elements, no " + std::to_string(index);
    return nullptr;
  }
  return &(*array)[static_cast<std::size_t>(at)];
}

resolved look_up(const reference &r, const scope &values) {
  std::string written(name_of(r.root));
  const auto &first = std::get<std::string>(r.path.front());
  json::value environment;
  const json::value *now = nullptr;
  if (r.root == root::env) {
    const char *text = std::getenv(first.c_str());
    if (!text)
      return {{}, "the environment has no '" + first + "'"};
    environment = json::string(text);
    now = &environment;
  } else {
    const bool ret = r.root == root::ret;
    now = ret ? values.result(first) : values.variable(first);
    if (!now) {
      std::vector<std::string_view> known;
      for (const auto *one = &values; one; one = one->outer)
        for (const auto name : names_in(ret ? one->ret : one->var))
          known.push_back(name);
      return {{},
              (ret ? "there is no result '" : "there is no variable '") + first + "' yet" +
                  suggestion(first, known)};
    }
  }
  written += quoted(r.path.front());
  for (std::size_t i = 1; i < r.path.size(); ++i) {
    std::string why;
    now = descend(*now, r.path[i], why);
    if (!now)
      return {{}, written + ' ' + why};
    written += quoted(r.path[i]);
  }
  return {*now, {}};
}

resolved in_text(const json::string &s, const scope &values) {
  const std::string_view text(s.data(), s.size());
  const auto all = find_references(text);
  if (!all.complaint.empty())
    return {{}, all.complaint};
  if (all.found.size() == 1 && all.found[0].begin == 0 && all.found[0].end == text.size())
    return look_up(all.found[0], values);
  std::string out;
  const auto literal = [&](std::string_view piece) {
    // The backslash has done its work.
    for (std::size_t i = 0; i < piece.size(); ++i) {
      if (piece[i] == '\\') {
        const auto rest = piece.substr(i + 1);
        if (rest.starts_with("ret[") || rest.starts_with("var[") || rest.starts_with("env["))
          continue;
      }
      out += piece[i];
    }
  };
  std::size_t done = 0;
  for (const auto &r : all.found) {
    literal(text.substr(done, r.begin - done));
    auto value = look_up(r, values);
    if (!value.complaint.empty())
      return value;
    out += text_of(value.value);
    done = r.end;
  }
  literal(text.substr(done));
  return {json::string(out), {}};
}

} // namespace

const json::value *scope::result(std::string_view name) const {
  const auto *found = ret.if_contains({name.data(), name.size()});
  return found || !outer ? found : outer->result(name);
}

const json::value *scope::variable(std::string_view name) const {
  const auto *found = var.if_contains({name.data(), name.size()});
  return found || !outer ? found : outer->variable(name);
}

references find_references(std::string_view text) {
  references out;
  for (std::size_t i = 0; i + 5 < text.size(); ++i) {
    const auto rest = text.substr(i);
    const bool ret = rest.starts_with("ret[");
    const bool var = rest.starts_with("var[");
    if (!ret && !var && !rest.starts_with("env["))
      continue;
    if (i != 0 && (word(text[i - 1]) || text[i - 1] == '\\'))
      continue;
    if (rest[4] != '"' && rest[4] != '\'')
      continue; // ret[0] is nobody's result
    reference r;
    r.root = ret ? root::ret : var ? root::var : root::env;
    r.begin = i;
    auto at = i + 3;
    auto k = read_key(text, at);
    while (k) {
      r.path.push_back(std::move(*k));
      // Behind a reference an index may follow that is none: "ret["a"][see below]".
      k.reset();
      if (r.root != root::env && at < text.size() && text[at] == '[')
        k = read_key(text, at);
    }
    if (r.path.empty()) {
      if (out.complaint.empty())
        out.complaint = "'" + std::string(rest.substr(0, 20)) + "' is not closed: write " +
                        std::string(name_of(r.root)) + "[\"name\"], or \\\\" +
                        std::string(name_of(r.root)) + "[ for the text itself";
      continue;
    }
    r.end = at;
    out.found.push_back(std::move(r));
    i = at - 1;
  }
  return out;
}

bool is_reference(std::string_view text) {
  const auto all = find_references(text);
  return all.found.size() == 1 && all.found[0].begin == 0 && all.found[0].end == text.size();
}

resolved substitute(const json::value &v, const scope &values) {
  if (const auto *s = v.if_string())
    return in_text(*s, values);
  if (const auto *array = v.if_array()) {
    json::array out;
    for (const auto &one : *array) {
      auto part = substitute(one, values);
      if (!part.complaint.empty())
        return part;
      out.push_back(std::move(part.value));
    }
    return {std::move(out), {}};
  }
  if (const auto *object = v.if_object()) {
    json::object out;
    for (const auto &one : *object) {
      auto part = substitute(one.value(), values);
      if (!part.complaint.empty())
        return part;
      out.insert_or_assign(one.key(), std::move(part.value));
    }
    return {std::move(out), {}};
  }
  return {v, {}};
}

} // namespace cli::script
