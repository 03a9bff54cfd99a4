#include "script_match.hpp"

#include "script_kinds.hpp"

#include <chorus/json/json.hpp>

#include <boost/json/array.hpp>
#include <boost/regex.hpp>

#include <stdexcept>

namespace cli::script {

namespace json = boost::json;

namespace {

json::kind number_kind(const json::value &v) {
  return v.is_number() ? json::kind::double_ : v.kind();
}

std::string no_match(std::string_view expression, std::string_view text) {
  try {
    const boost::regex pattern(expression.data(), expression.data() + expression.size());
    if (boost::regex_search(text.data(), text.data() + text.size(), pattern))
      return {};
    return "no part of " + shown(text) + " matches " + shown(expression);
  } catch (const std::runtime_error &e) { // too complex for this text, or no expression at all
    return shown(expression) + " can't be matched: " + e.what();
  }
}

std::string differs(const json::value &wanted, const subject &got) {
  if (got.value)
    return same(wanted, *got.value) ? std::string()
                                    : "expected " + shown(wanted) + ", got " + shown(*got.value);
  if (wanted.is_string())
    return got.text == text_of(wanted) ? std::string()
                                       : "expected " + shown(wanted) + ", got " + shown(got.text);
  const auto parsed = chorus::parse_json(got.text, {.max_depth = 64, .max_bytes = 0});
  if (!parsed)
    return "expected " + shown(wanted) + ", got what is no JSON: " + shown(got.text);
  return same(wanted, *parsed) ? std::string()
                               : "expected " + shown(wanted) + ", got " + shown(*parsed);
}

std::string lacks(const json::value &wanted, const subject &got) {
  if (got.value)
    return missing_of(wanted, *got.value);
  const auto parsed = chorus::parse_json(got.text, {.max_depth = 64, .max_bytes = 0});
  if (!parsed)
    return "expected JSON, got " + shown(got.text);
  return missing_of(wanted, *parsed);
}

} // namespace

std::string regex_complaint(std::string_view expression) {
  try {
    const boost::regex pattern(expression.data(), expression.data() + expression.size());
    return {};
  } catch (const boost::regex_error &e) {
    std::string why = e.what();
    // The rest repeats the expression.
    if (const auto end = why.find("  The error occurred"); end != why.npos)
      why.resize(end);
    while (why.ends_with('.') || why.ends_with(' '))
      why.pop_back();
    return why;
  }
}

bool same(const json::value &a, const json::value &b) {
  if (number_kind(a) != number_kind(b))
    return false;
  if (a.is_number()) {
    if (a.kind() == b.kind())
      return a == b;
    return a.to_number<double>() == b.to_number<double>();
  }
  if (const auto *array = a.if_array()) {
    const auto &other = b.get_array();
    if (array->size() != other.size())
      return false;
    for (std::size_t i = 0; i < array->size(); ++i)
      if (!same((*array)[i], other[i]))
        return false;
    return true;
  }
  if (const auto *object = a.if_object()) {
    const auto &other = b.get_object();
    if (object->size() != other.size())
      return false;
    for (const auto &one : *object) {
      const auto *there = other.if_contains(one.key());
      if (!there || !same(one.value(), *there))
        return false;
    }
    return true;
  }
  return a == b;
}

std::string missing_of(const json::value &wanted, const json::value &got, const std::string &path) {
  const auto where = path.empty() ? std::string("the JSON") : path;
  if (const auto *object = wanted.if_object()) {
    const auto *other = got.if_object();
    if (!other)
      return where + " is no object but " + shown(got);
    for (const auto &one : *object) {
      const std::string name(one.key().data(), one.key().size());
      const auto *there = other->if_contains(one.key());
      if (!there)
        return where + " has no member '" + name + "': " + shown(got);
      auto why = missing_of(one.value(), *there, path.empty() ? name : path + '.' + name);
      if (!why.empty())
        return why;
    }
    return {};
  }
  if (const auto *array = wanted.if_array()) {
    const auto *other = got.if_array();
    if (!other)
      return where + " is no array but " + shown(got);
    if (other->size() != array->size())
      return where + " has " + std::to_string(other->size()) + " elements, not " +
             std::to_string(array->size());
    for (std::size_t i = 0; i < array->size(); ++i) {
      auto why = missing_of((*array)[i], (*other)[i], path + '[' + std::to_string(i) + ']');
      if (!why.empty())
        return why;
    }
    return {};
  }
  return same(wanted, got) ? std::string() : where + " is " + shown(got) + ", not " + shown(wanted);
}

std::string mismatch(const json::object &wanted, const subject &got) {
  std::string text = got.value ? text_of(*got.value) : std::string(got.text);
  const auto given = [&](const char *name) { return wanted.if_contains(name); };
  std::string why;
  if (const auto *v = given("type"); v && text_of(*v) != (got.is_text ? "text" : "binary"))
    return std::string("expected a message of type ") + text_of(*v) + ", got " +
           (got.is_text ? "text" : "binary");
  if (const auto *v = given("equals"))
    why = differs(*v, got);
  if (const auto *v = given("contains");
      why.empty() && v && text.find(text_of(*v)) == std::string::npos)
    why = shown(*v) + " is not contained in " + shown(text);
  if (const auto *v = given("matches"); why.empty() && v)
    why = no_match(text_of(*v), text);
  if (const auto *v = given("json"); why.empty() && v)
    why = lacks(*v, got);
  if (const auto *v = given("hex"); why.empty() && v)
    if (const auto bytes = bytes_of_hex(text_of(*v)).value_or(std::string()); bytes != text)
      why = "expected the bytes " + hex_of(bytes.substr(0, 100)) + ", got " +
            hex_of(std::string_view(text).substr(0, 100));
  return why;
}

} // namespace cli::script
