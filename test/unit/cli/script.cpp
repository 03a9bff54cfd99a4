// The parts of `chorus script` that work on text alone.

#include "../../../src/cli/script_check.hpp"
#include "../../../src/cli/script_kinds.hpp"
#include "../../../src/cli/script_match.hpp"
#include "../../../src/cli/script_names.hpp"
#include "../../../src/cli/script_values.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

using namespace cli::script;
namespace json = boost::json;

BOOST_AUTO_TEST_SUITE(script)

BOOST_AUTO_TEST_CASE(distances) {
  BOOST_TEST(edit_distance("", "abc") == 3U);
  BOOST_TEST(edit_distance("abc", "abc") == 0U);
  BOOST_TEST(edit_distance("abc", "acb") == 1U); // neighbours that changed places
  BOOST_TEST(edit_distance("kitten", "sitting") == 3U);
  BOOST_TEST(nearest("conect_gate", {"send", "connect_gate"}) == "connect_gate");
  BOOST_TEST(nearest("connect", {"send", "connect_gate"}) == "connect_gate");
  BOOST_TEST(nearest("frobnicate", {"send", "connect_gate"}) == "");
  BOOST_TEST(nearest("xy", {"ab"}) == "");
  BOOST_TEST(nearest(std::string(1'000'000, 'a'), {"ab"}) == "");
  BOOST_TEST(suggestion("q", {"ab", "cd", "ef"}) == "; there are ab, cd and ef");
}

// Every value of a text is where the document says, whatever stands around it.
BOOST_AUTO_TEST_CASE(places) {
  const std::string text =
      "[ \"\\\"]\\u00e4\" ,\n\t{ \"\xc3\xa4\":[1,-2.5e3,{}] , \"b\" : null},[],true]";
  std::vector<complaint> none;
  const auto file = std::make_shared<const std::string>("f");
  const auto document = read_document(file, text, none);
  BOOST_TEST_REQUIRE(document.has_value());
  BOOST_TEST(json::serialize(document->value) == json::serialize(json::parse(text)));
  const auto &object = document->elements.at(1);
  BOOST_TEST(to_string(document->elements.at(0).at) == "f:1:3");
  BOOST_TEST(to_string(object.at) == "f:2:2");
  BOOST_TEST(to_string(object.members.at(0).at) == "f:2:4");
  BOOST_TEST(to_string(object.members.at(0).content.elements.at(1).at) == "f:2:11");
  BOOST_TEST(to_string(object.find("b")->content.at) == "f:2:30");
  BOOST_TEST(to_string(document->elements.at(3).at) == "f:2:39");
  BOOST_TEST(none.size() == 0U);
}

// A text cut anywhere is refused at a place that lies in it; never more than a complaint.
BOOST_AUTO_TEST_CASE(cut_texts) {
  const std::string text = R"([{"cmd":"send","json":{"a":[1.5,"x\"y",true,null]}},{"cmd":"ping"}])";
  for (std::size_t size = 0; size < text.size(); ++size) {
    const auto out = check_script("f", "", text.substr(0, size), {});
    BOOST_TEST_REQUIRE(out.complaints.size() == 1U);
    BOOST_TEST(out.complaints[0].at.column <= size + 1);
  }
}

BOOST_AUTO_TEST_CASE(reading_references) {
  const auto one = find_references("a ret[\"x\"]['y'][-2] b");
  BOOST_TEST_REQUIRE(one.found.size() == 1U);
  BOOST_TEST(one.found[0].path.size() == 3U);
  BOOST_TEST(one.found[0].begin == 2U);
  BOOST_TEST(one.found[0].end == 19U);
  BOOST_TEST(find_references("secret[\"x\"] \\var[\"x\"] ret[0] ret").found.size() == 0U);
  BOOST_TEST(find_references("env['A']['B']").found.at(0).end == 8U);
  BOOST_TEST(!find_references("ret[\"x").complaint.empty());
  BOOST_TEST(is_reference("var['a']"));
  BOOST_TEST(!is_reference("var['a'] "));
}

BOOST_AUTO_TEST_CASE(scopes) {
  scope outer;
  outer.ret["a"] = "outer";
  outer.ret["b"] = "outer";
  outer.var["v"] = "outer";
  scope inner;
  inner.outer = &outer;
  inner.ret["b"] = "inner";
  inner.var["w"] = "inner";
  const auto made = [&](const char *text) {
    const auto out = substitute(json::value(text), inner);
    return out.complaint.empty() ? text_of(out.value) : "? " + out.complaint;
  };
  BOOST_TEST(made("ret['a'] ret['b'] var['v'] var['w']") == "outer inner outer inner");
  BOOST_TEST(made("var['vv']") == "? there is no variable 'vv' yet; did you mean 'v'?");
  BOOST_TEST(!outer.result("w"));
}

BOOST_AUTO_TEST_CASE(substitution) {
  scope values;
  values.ret = json::parse(R"({"a":{"list":[1,{"k":"v"},0.25]},"s":"text"})").as_object();
  values.var["n"] = 7;
  const auto made = [&](const char *text) {
    const auto out = substitute(json::parse(text), values);
    return out.complaint.empty() ? json::serialize(out.value) : "? " + out.complaint;
  };
  BOOST_TEST(made(R"("ret['a']['list'][1]['k']")") == "\"v\"");
  BOOST_TEST(made(R"("ret['a']['list'][-3]")") == "1");
  BOOST_TEST(made(R"({"x":["var['n']",{"y":"<var['n']>"}],"var['n']":null})") ==
             R"({"x":[7,{"y":"<7>"}],"var['n']":null})");
  BOOST_TEST(made(R"("ret['a']['list'][2], ret['a']['list'][1] \\ret['a'] ret['s']")") ==
             R"("0.25, {\"k\":\"v\"} ret['a'] text")");
  BOOST_TEST(made(R"("ret['a']['lst']")") ==
             "? ret[\"a\"] has no member 'lst'; did you mean 'list'?");
  BOOST_TEST(made(R"("ret['a']['list'][3]")") == "? ret[\"a\"][\"list\"] has 3 elements, no 3");
  BOOST_TEST(made(R"("var['m']")") == "? there is no variable 'm' yet; there is only n");
}

BOOST_AUTO_TEST_CASE(subsets) {
  const auto why = [](const char *wanted, const char *got) {
    return missing_of(json::parse(wanted), json::parse(got));
  };
  BOOST_TEST(why(R"({"a":1,"b":{}})", R"({"c":2,"b":{"x":1},"a":1.0})") == "");
  BOOST_TEST(why(R"([{"a":1}])", R"([{"a":1,"b":2}])") == "");
  BOOST_TEST(why(R"({"a":[{"b":1}]})", R"({"a":[{"b":2}]})") == "a[0].b is 2, not 1");
  BOOST_TEST(why("[1]", "[1,2]") == "the JSON has 2 elements, not 1");
  BOOST_TEST(why("null", "0") == "the JSON is 0, not null");
  BOOST_TEST(
      same(json::parse("[1,18446744073709551615]"), json::parse("[1.0,18446744073709551615]")));
  BOOST_TEST(!same(json::parse("{}"), json::parse("[]")));
}

BOOST_AUTO_TEST_CASE(expressions) {
  BOOST_TEST(regex_complaint("a+(b|c)$").empty());
  BOOST_TEST(!regex_complaint("a[").empty());
  // A text on which backtracking would take for ever, or too deep, ends with a sentence.
  const std::string text(100'000, 'a');
  json::object wanted;
  wanted["matches"] = "(a+)+$b";
  BOOST_TEST(!mismatch(wanted, {text, true, nullptr}).empty());
  wanted["matches"] = "^(a|b)*$";
  BOOST_TEST(mismatch(wanted, {text, true, nullptr}).size() < 1000U);
}

BOOST_AUTO_TEST_CASE(numbers_of_steps) {
  const auto out = check_script(
      "f", "",
      R"([{"cmd":"print","message":1},{"cmd":"repeat","times":2,"steps":[{"cmd":"print","message":1}]},{"cmd":"print","message":1}])",
      {});
  BOOST_TEST(out.complaints.size() == 0U);
  BOOST_TEST(out.count == 3U);
  BOOST_TEST(out.steps.at(1).steps.at(0).number == 2U);
  BOOST_TEST(out.steps.at(2).number == 3U);
}

BOOST_AUTO_TEST_SUITE_END()
