#include "script_kinds.hpp"
#include "script_table.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

namespace cli::script {

namespace json = boost::json;

namespace {

json::array names(const std::vector<std::string_view> &some) {
  json::array out;
  for (const auto one : some)
    out.emplace_back(view(one));
  return out;
}

// What stands in place of a value that is no string: `ret["send"]["bytes"]`.
json::object reference_form() {
  json::object out;
  out["type"] = "string";
  out["pattern"] = R"(^(ret|var|env)\[.+\]$)";
  return out;
}

json::object or_reference(json::object plain) {
  json::object out;
  out["anyOf"] = json::array{std::move(plain), json::object{{"$ref", "#/$defs/reference"}}};
  return out;
}

json::object scalar(const field &f) {
  json::object out;
  switch (f.type) {
  case kind::integer:
    out["type"] = "integer";
    out["minimum"] = f.lowest;
    out["maximum"] = f.highest;
    return or_reference(std::move(out));
  case kind::boolean:
    out["type"] = "boolean";
    return or_reference(std::move(out));
  case kind::choice:
    out["enum"] = names(f.choices);
    return or_reference(std::move(out));
  case kind::duration:
    out["$ref"] = "#/$defs/duration";
    return out;
  case kind::size:
    out["$ref"] = "#/$defs/size";
    return out;
  case kind::name:
    out["type"] = "string";
    out["pattern"] = "^[A-Za-z0-9_.-]{1,64}$";
    return out;
  default:
    out["type"] = "string";
    return out;
  }
}

json::object type_of(const field &f) {
  json::object out;
  switch (f.type) {
  case kind::any:
    break;
  case kind::steps:
    out["$ref"] = "#/$defs/steps";
    break;
  case kind::texts:
    out["anyOf"] =
        json::array{json::object{{"type", "string"}},
                    json::object{{"type", "array"}, {"items", json::object{{"type", "string"}}}}};
    break;
  case kind::headers:
    out["type"] = "object";
    out["additionalProperties"] = json::object{{"type", "string"}};
    break;
  default:
    out = scalar(f);
  }
  out["description"] = view(f.help);
  return out;
}

json::object required(std::string_view name) { return {{"required", json::array{view(name)}}}; }

json::object step_of(const command &c) {
  json::object properties;
  json::array needed;
  properties["cmd"] = json::object{{"const", view(c.name)}};
  for (const auto *some : {&common_fields(), &c.fields})
    for (const auto &f : *some) {
      if (f.name != "cmd")
        properties[view(f.name)] = type_of(f);
      if (f.required)
        needed.emplace_back(view(f.name));
    }
  json::object out;
  out["description"] = view(c.help);
  out["type"] = "object";
  out["properties"] = std::move(properties);
  out["required"] = std::move(needed);
  out["additionalProperties"] = false;
  json::array rules;
  const auto groups = [&](const auto &some, const char *how) {
    for (const auto &group : some) {
      json::array each;
      for (const auto name : group)
        each.emplace_back(required(name));
      rules.emplace_back(json::object{{how, std::move(each)}});
    }
  };
  groups(c.exactly_one, "oneOf");
  groups(c.at_least_one, "anyOf");
  for (const auto &[a, b] : c.never_both)
    rules.emplace_back(
        json::object{{"not", json::object{{"required", json::array{view(a), view(b)}}}}});
  if (!rules.empty())
    out["allOf"] = std::move(rules);
  return out;
}

// Two spaces a level; what fits on one line stays on it.
void write(std::string &out, const json::value &v, std::size_t indent) {
  auto flat = json::serialize(v);
  const bool nested = v.is_object() || v.is_array();
  if (!nested || indent + flat.size() < 100) {
    out += flat;
    return;
  }
  const std::string margin(indent + 2, ' ');
  const char *separator = "\n";
  const auto item = [&] {
    out += separator + margin;
    separator = ",\n";
  };
  if (const auto *object = v.if_object()) {
    out += '{';
    for (const auto &member : *object) {
      item();
      out += json::serialize(json::value(member.key())) + ": ";
      write(out, member.value(), indent + 2);
    }
  } else {
    out += '[';
    for (const auto &element : v.get_array()) {
      item();
      write(out, element, indent + 2);
    }
  }
  out += '\n' + std::string(indent, ' ') + (v.is_object() ? '}' : ']');
}

} // namespace

json::object schema() {
  json::object definitions;
  json::array branches;
  for (const auto &c : commands()) {
    definitions[view(c.name)] = step_of(c);
    json::object branch;
    branch["if"] =
        json::object{{"properties", json::object{{"cmd", json::object{{"const", view(c.name)}}}}}};
    branch["then"] = json::object{{"$ref", "#/$defs/" + std::string(c.name)}};
    branches.emplace_back(std::move(branch));
  }
  definitions["reference"] = reference_form();
  json::object number{{"type", "number"}, {"minimum", 0}};
  json::object duration{{"type", "string"}, {"pattern", "^[0-9]+([.][0-9]+)?(ms|s|m|h)?$"}};
  json::object size{{"type", "string"}, {"pattern", "^[0-9]+([.][0-9]+)?([kKmMgGtT]i?)?B?$"}};
  definitions["duration"] = or_reference({{"anyOf", json::array{number, duration}}});
  definitions["size"] = or_reference(
      {{"anyOf", json::array{json::object{{"type", "integer"}, {"minimum", 0}}, size}}});
  json::object step;
  step["type"] = "object";
  step["required"] = json::array{"cmd"};
  step["properties"] = json::object{{"cmd", json::object{{"enum", names(command_names())}}}};
  step["allOf"] = std::move(branches);
  definitions["step"] = std::move(step);
  definitions["steps"] =
      json::object{{"type", "array"}, {"items", json::object{{"$ref", "#/$defs/step"}}}};
  json::object out;
  out["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  out["title"] = "A script of `chorus script`";
  out["$ref"] = "#/$defs/steps";
  out["$defs"] = std::move(definitions);
  return out;
}

std::string schema_text() {
  std::string out;
  write(out, schema(), 0);
  return out + '\n';
}

} // namespace cli::script
