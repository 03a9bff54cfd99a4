#include "script_run.hpp"

#include "script_kinds.hpp"
#include "script_within.hpp"
#include "standard_io.hpp"

#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>

namespace cli::script {

namespace json = boost::json;
using chorus::task;
using namespace std::chrono_literals;

namespace {

// Where a string is wanted a number or another value becomes its text.
void make_text(json::value &v) {
  if (!v.is_string())
    v = json::string(text_of(v));
}

void make_texts(const step &s, json::object &arguments) {
  for (auto &one : arguments) {
    auto &v = one.value();
    const auto type = s.what->find({one.key().data(), one.key().size()})->type;
    if (type == kind::text || type == kind::hex || type == kind::regex)
      make_text(v);
    else if (auto *array = type == kind::texts ? v.if_array() : nullptr)
      std::for_each(array->begin(), array->end(), make_text);
    else if (auto *object = type == kind::headers ? v.if_object() : nullptr)
      for (auto &header : *object)
        make_text(header.value());
  }
}

// What a reference stood for must be of the field's kind, too.
std::string complaint_about(const step &s, const json::object &arguments) {
  for (const auto &one : arguments) {
    const auto *f = s.what->find({one.key().data(), one.key().size()});
    if (const auto wrong = check_value(*f, one.value(), false))
      return wrong->sentence;
  }
  if (s.what->verb == verb::connect_gate)
    return gate_complaint(arguments).first;
  if (const auto *code = arguments.if_contains("code"); code && s.what->verb == verb::close)
    return close_complaint(integer_of(*code));
  return {};
}

// Those opened here, in order; who does not answer is dropped when this ends.
task<> close_all(std::shared_ptr<context> where) {
  for (auto it = where->own.begin(); it != where->own.end(); ++it) {
    auto session = it->second->session;
    if (session.is_open()) {
      const auto closed = co_await within(session.close(), 2s);
      if (!closed)
        session.abort();
    }
  }
  where->own.clear();
}

} // namespace

std::shared_ptr<gate> context::find(const std::string &name) const {
  if (const auto it = own.find(name); it != own.end())
    return it->second;
  return outer ? outer->find(name) : nullptr;
}

const json::value *call::find(std::string_view name) const {
  return arguments.if_contains(view(name));
}
bool call::has(std::string_view name) const { return find(name) != nullptr; }
std::string call::text(std::string_view name, std::string_view otherwise) const {
  const auto *v = find(name);
  return v ? text_of(*v) : std::string(otherwise);
}
std::int64_t call::integer(std::string_view name, std::int64_t otherwise) const {
  const auto *v = find(name);
  return v ? integer_of(*v) : otherwise;
}
bool call::boolean(std::string_view name) const {
  const auto *v = find(name);
  return v && boolean_of(*v);
}
std::chrono::milliseconds call::duration(std::string_view name,
                                         std::chrono::milliseconds otherwise) const {
  const auto *v = find(name);
  return v ? duration_of(*v) : otherwise;
}

task<> runner::run(json::object variables) {
  auto where = std::make_shared<context>();
  where->values.var = std::move(variables);
  const auto end = co_await all(where, &script_.steps, false);
  co_await close_all(where);
}

task<outcome> runner::all(std::shared_ptr<context> where, const std::vector<step> *steps,
                          bool inside) {
  outcome first;
  for (const auto &s : *steps) {
    auto o = co_await one(where, &s, inside);
    if (o.passed())
      continue;
    if (first.passed())
      first = std::move(o);
    if (!settings_.keep_going)
      break;
  }
  co_return first;
}

task<outcome> runner::one(std::shared_ptr<context> where, const step *s, bool inside) {
  const auto begin = std::chrono::steady_clock::now();
  if (!inside)
    report_.began(*s);
  outcome o;
  auto arguments = substitute(s->arguments, where->values);
  std::string complaint = arguments.complaint;
  if (complaint.empty()) {
    make_texts(*s, arguments.value.get_object());
    complaint = complaint_about(*s, arguments.value.get_object());
  }
  if (!complaint.empty()) {
    o = outcome::failed(status::failed, complaint);
  } else {
    auto c = std::make_shared<call>(where, s, std::move(arguments.value.get_object()));
    o = co_await execute(c, inside);
  }
  const std::string name(s->what->name);
  where->values.ret.insert_or_assign(name, o.result);
  if (!s->save.empty())
    where->values.ret.insert_or_assign(s->save, o.result);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  if (!inside)
    report_.ended(*s, o.passed() ? outcome_kind::passed : outcome_kind::failed, o.code,
                  took.count(), o.result, o.error, o.note);
  else if (!o.passed() && s->what->verb != verb::include)
    report_.ended_inside(*s, o.error);
  co_return o;
}

task<outcome> runner::execute(call_ptr c, bool inside) {
  switch (c->what->what->verb) {
  case verb::connect_gate:
    co_return co_await connect_gate(c);
  case verb::send:
    co_return co_await send(c);
  case verb::receive:
    co_return co_await receive(c);
  case verb::expect:
    co_return co_await expect(c);
  case verb::ping:
    co_return co_await ping(c);
  case verb::close:
    co_return co_await close(c);
  case verb::wait_closed:
    co_return co_await wait_closed(c);
  case verb::reconnect:
    co_return co_await reconnect(c);
  case verb::repeat:
    co_return co_await repeat(c);
  case verb::parallel:
    co_return co_await parallel(c);
  case verb::print:
    co_return print(*c);
  case verb::set: {
    auto &values = c->where->values;
    const auto name = c->text("name");
    if (const auto *value = c->find("value"))
      values.var.insert_or_assign(name, *value);
    else if (!values.variable(name))
      values.var.emplace(name, *c->find("default"));
    co_return outcome(*values.variable(name), name);
  }
  case verb::sleep: {
    const auto time = c->duration("duration", 0ms);
    co_await chorus::sleep(time);
    co_return outcome(json::value(static_cast<double>(time.count()) / 1000));
  }
  case verb::include:
    break;
  }
  auto end = co_await all(c->where, &c->what->steps, inside);
  json::object result;
  result["steps"] = c->what->steps.size();
  if (!end.passed())
    co_return outcome::failed(end.code, end.error, std::move(result));
  co_return outcome(std::move(result));
}

outcome runner::print(const call &c) {
  auto line = c.text("message");
  json::object result;
  result["message"] = line;
  line += '\n';
  auto *to = settings_.print_to_stderr ? stderr : stdout;
  if (std::fwrite(line.data(), 1, line.size(), to) != line.size() || std::fflush(to) != 0)
    return outcome::failed(status::failed, "standard output is gone", std::move(result));
  return outcome(std::move(result));
}

task<outcome> runner::repeat(call_ptr c) {
  const auto times = c->integer("times", 0);
  const auto index = c->text("index", "i");
  outcome first;
  std::int64_t round = 0; // in which it failed first, from 1
  for (std::int64_t i = 0; i < times; ++i) {
    c->where->values.var.insert_or_assign(index, i);
    auto o = co_await all(c->where, &c->what->steps, true);
    if (!o.passed() && first.passed()) {
      first = std::move(o);
      round = i + 1;
    }
    if (!first.passed() && !settings_.keep_going)
      break;
    if (i % 64 == 63)
      co_await chorus::sleep(0ms); // signals and deadlines get their turn
  }
  json::object result;
  result["times"] = times;
  auto note = std::to_string(times) + " times";
  if (!first.passed())
    co_return outcome::failed(first.code, "in round " + std::to_string(round) + ": " + first.error,
                              std::move(result), std::move(note));
  co_return outcome(std::move(result), std::move(note));
}

struct runner::copies {
  explicit copies(const boost::asio::any_io_executor &ex) : changed(ex) {}
  event changed;
  std::int64_t running = 0;
  std::int64_t failed = 0;
  std::int64_t number_of_first = 0;
  outcome first;
};

task<> runner::copy(std::shared_ptr<context> where, const step *s, std::shared_ptr<copies> state) {
  outcome o;
  try {
    o = co_await all(where, &s->steps, true);
    co_await close_all(where);
  } catch (const std::exception &e) {
    o = outcome::failed(status::failed, e.what());
  }
  if (!o.passed() && ++state->failed == 1)
    state->first = std::move(o);
  --state->running;
  state->changed.notify();
}

task<outcome> runner::parallel(call_ptr c) {
  const auto number = c->integer("copies", 1);
  const auto index = c->text("index", "copy");
  auto state = std::make_shared<copies>(co_await boost::asio::this_coro::executor);
  const auto begin = std::chrono::steady_clock::now();
  state->running = number;
  for (std::int64_t i = 0; i < number; ++i) {
    auto where = std::make_shared<context>();
    where->values.outer = &c->where->values; // which waits for the copies
    where->values.var.insert_or_assign(index, i);
    where->outer = c->where;
    runtime_.spawn(copy(std::move(where), c->what, state));
  }
  while (state->running != 0)
    co_await state->changed.wait();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  json::object result;
  result["copies"] = number;
  result["passed"] = number - state->failed;
  result["failed"] = state->failed;
  result["seconds"] = took.count();
  auto note = std::to_string(number) + " copies";
  if (state->failed == 0)
    co_return outcome(std::move(result), std::move(note));
  co_return outcome::failed(state->first.code,
                            std::to_string(state->failed) + " of " + std::to_string(number) +
                                " copies failed, the first: " + state->first.error,
                            std::move(result), std::move(note));
}

} // namespace cli::script
