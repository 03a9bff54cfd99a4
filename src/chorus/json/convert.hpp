#pragma once
// Between JSON values and types of one's own.
//
// As Boost 1.81 has it, a described class takes an object with exactly its members: a missing one
// fails even if it is a std::optional, and so does one that the class does not know. A `tag_invoke` of
// one's own can be more liberal. Within such a one nothing is known of members: a failure names the
// value that was given to it.

#include <chorus/base/result.hpp>

#include <boost/describe/members.hpp>
#include <boost/describe/modifiers.hpp>
#include <boost/json/value.hpp>
#include <boost/json/value_from.hpp>
#include <boost/json/value_to.hpp>
#include <boost/mp11/algorithm.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace chorus {

// A type that becomes JSON through `value_from`, as opposed to what already is a JSON value.
template <class T>
concept json_convertible =
    !std::is_convertible_v<const T &, boost::json::value> && boost::json::has_value_from<T>::value;

// `T` as deduced for a forwarding reference: see json.hpp on temporaries.
template <class T>
concept json_safe_argument =
    std::is_lvalue_reference_v<T> || !std::is_aggregate_v<std::remove_cvref_t<T>> ||
    std::is_trivially_destructible_v<std::remove_cvref_t<T>>;

// An array of the arguments, each converted.
template <class... Args> boost::json::value json_array(const Args &...elements) {
  boost::json::array out;
  out.reserve(sizeof...(elements));
  (out.push_back(boost::json::value_from(elements)), ...);
  return boost::json::value(std::move(out));
}

namespace detail {
inline void add_members(boost::json::object &) {}
template <class T, class... Rest>
void add_members(boost::json::object &to, std::string_view name, const T &value,
                 const Rest &...rest) {
  to.insert_or_assign(boost::json::string_view(name.data(), name.size()),
                      boost::json::value_from(value));
  add_members(to, rest...);
}

// Why a value did not convert.
struct json_mismatch {
  error_code code;
  std::string pointer; // RFC 6901
  std::string_view note;
  const boost::json::value *found = nullptr;
};
void append_pointer(std::string &pointer, std::string_view name);
failure conversion_failure(const json_mismatch &what);

template <class T> inline constexpr bool is_optional_v = false;
template <class T> inline constexpr bool is_optional_v<std::optional<T>> = true;

template <class T>
concept has_own_conversion = requires(const boost::json::value &v) {
  tag_invoke(boost::json::value_to_tag<T>(), v);
}
|| requires(const boost::json::value &v) { tag_invoke(boost::json::try_value_to_tag<T>(), v); };

template <class T> void locate(const boost::json::value &v, json_mismatch &at);

// True when `v` is what does not convert.
template <class T> bool is_at_fault(const boost::json::value &v, json_mismatch &at) {
  auto converted = boost::json::try_value_to<T>(v);
  if (converted.has_value())
    return false;
  at.code = converted.error();
  locate<T>(v, at);
  return true;
}

template <class T> void locate_member(const boost::json::object &object, json_mismatch &at) {
  namespace describe = boost::describe;
  using members = describe::describe_members<T, describe::mod_public | describe::mod_inherited>;
  bool found = false;
  boost::mp11::mp_for_each<members>([&](auto member) {
    if (found)
      return;
    const auto *one = object.if_contains(member.name);
    auto deeper = at;
    append_pointer(deeper.pointer, member.name);
    if (!one) {
      deeper.note = "this member is missing";
      deeper.found = nullptr;
      found = true;
    } else {
      using type = std::remove_cvref_t<decltype(std::declval<T &>().*member.pointer)>;
      found = is_at_fault<type>(*one, deeper);
    }
    if (found)
      at = std::move(deeper);
  });
  if (found)
    return;
  for (const auto &one : object) {
    bool known = false;
    boost::mp11::mp_for_each<members>(
        [&](auto member) { known = known || one.key() == member.name; });
    if (!known) {
      append_pointer(at.pointer, one.key());
      at.note = "this member is not known";
      at.found = nullptr;
      return;
    }
  }
}

template <class T, std::size_t... I>
void locate_element(const boost::json::array &array, json_mismatch &at, std::index_sequence<I...>) {
  const auto look = [&]<std::size_t N>() {
    auto deeper = at;
    append_pointer(deeper.pointer, std::to_string(N));
    if (!is_at_fault<std::tuple_element_t<N, T>>(array[N], deeper))
      return false;
    at = std::move(deeper);
    return true;
  };
  (look.template operator()<I>() || ...);
}

template <class T> void locate(const boost::json::value &v, json_mismatch &at) {
  namespace json = boost::json;
  at.found = &v;
  if constexpr (is_optional_v<T>) {
    locate<typename T::value_type>(v, at);
  } else if constexpr (has_own_conversion<T>) {
  } else if constexpr (std::is_same_v<T, json::value> || std::is_same_v<T, json::object> ||
                       std::is_same_v<T, json::array> || json::is_string_like<T>::value) {
  } else if constexpr (json::is_described_class<T>::value) {
    if (const auto *object = v.if_object())
      locate_member<T>(*object, at);
  } else if constexpr (json::is_map_like<T>::value) {
    if (const auto *object = v.if_object())
      for (const auto &one : *object) {
        auto deeper = at;
        append_pointer(deeper.pointer, one.key());
        if (is_at_fault<typename T::mapped_type>(one.value(), deeper)) {
          at = std::move(deeper);
          return;
        }
      }
  } else if constexpr (json::is_sequence_like<T>::value) {
    using element = std::remove_cvref_t<decltype(*std::begin(std::declval<T &>()))>;
    if (const auto *array = v.if_array())
      for (std::size_t i = 0; i < array->size(); ++i) {
        auto deeper = at;
        append_pointer(deeper.pointer, std::to_string(i));
        if (is_at_fault<element>((*array)[i], deeper)) {
          at = std::move(deeper);
          return;
        }
      }
  } else if constexpr (json::is_tuple_like<T>::value) {
    constexpr auto size = std::tuple_size_v<T>;
    if (const auto *array = v.if_array(); array && array->size() == size)
      locate_element<T>(*array, at, std::make_index_sequence<size>());
  }
}
} // namespace detail

// An object: `json_object("name", name, "count", 3)`. The last of equal names counts.
template <class... Args> boost::json::value json_object(const Args &...names_and_values) {
  static_assert(sizeof...(Args) % 2 == 0, "json_object takes names and values in turn");
  boost::json::object out;
  out.reserve(sizeof...(Args) / 2);
  detail::add_members(out, names_and_values...);
  return boost::json::value(std::move(out));
}

// Fails with `json::condition::conversion_error` and names the member. An exception of a conversion of
// one's own counts as such a failure; only std::bad_alloc leaves.
template <class T> result<T> from_json(const boost::json::value &value) {
  if constexpr (std::is_same_v<T, boost::json::value>) {
    return value;
  } else {
    auto converted = boost::json::try_value_to<T>(value);
    if (converted.has_value())
      return std::move(*converted);
    detail::json_mismatch at;
    at.code = converted.error();
    detail::locate<T>(value, at);
    return detail::conversion_failure(at);
  }
}

} // namespace chorus
