// The keys of session tickets: how long each seals and opens, and that contexts go by them.

#include "tls_support.hpp"

#include <chorus/transport/tls_tickets.hpp>

using namespace chorus;
using namespace chorus::test;
using transport::ticket_keys;

BOOST_AUTO_TEST_SUITE(tls_tickets)

BOOST_AUTO_TEST_CASE(a_key_seals_for_a_period_and_opens_for_another) {
  const auto start = detail::time_point() + std::chrono::hours(1000);
  constexpr auto period = detail::duration(ticket_keys::period);
  constexpr auto moment = std::chrono::seconds(1);
  ticket_keys keys;
  const auto first = keys.sealing(start).value();
  const auto opens = [&](const ticket_keys::key &k, detail::time_point now) {
    const auto found = keys.opening(k.name.data(), now);
    return found && found->cipher == k.cipher && found->mac == k.mac;
  };
  BOOST_TEST((keys.sealing(start + period - moment)->name == first.name));
  BOOST_TEST(opens(first, start + period - moment));
  BOOST_TEST(keys.opening(first.name.data(), start)->current);
  const auto second = keys.sealing(start + period).value();
  BOOST_TEST((second.name != first.name));
  BOOST_TEST((second.cipher != first.cipher));
  BOOST_TEST((second.mac != first.mac));
  BOOST_TEST(opens(first, start + 2 * period - moment));
  BOOST_TEST(!keys.opening(first.name.data(), start + period)->current);
  BOOST_TEST(opens(second, start + 2 * period - moment));
  BOOST_TEST(!opens(first, start + 2 * period));
  BOOST_TEST(opens(second, start + 2 * period));
  // After a long silence nothing of before counts.
  BOOST_TEST(!opens(second, start + 10 * period));
  BOOST_TEST((keys.sealing(start + 10 * period)->name != second.name));
}

BOOST_AUTO_TEST_CASE(what_is_renewed_before_its_time_opens_once_more) {
  const auto now = detail::clock::now();
  ticket_keys keys;
  const auto first = keys.sealing(now).value();
  BOOST_TEST(keys.renew(now));
  BOOST_TEST((keys.sealing(now)->name != first.name));
  BOOST_TEST(keys.opening(first.name.data(), now).has_value());
  BOOST_TEST(keys.renew(now));
  BOOST_TEST(!keys.opening(first.name.data(), now).has_value());
}

namespace {

using context_ptr = std::shared_ptr<tls_context>;

// Whether the server says that the connection went on from an earlier one.
task<bool> resumes(detail::shard &home, context_ptr client, context_ptr server) {
  tls_pair p(home);
  auto [a, b] = make_memory_pair(home, home);
  p.client = std::move(*transport::make_tls_client_stream(std::move(a), client, "localhost"));
  p.server = std::move(*transport::make_tls_server_stream(std::move(b), server));
  co_await p.shake();
  BOOST_REQUIRE(p.open());
  put(*p.server, "x"); // behind the ticket
  const auto got = co_await read_exactly(*p.client, 1);
  BOOST_TEST(got == "x");
  co_return transport::tls_info_of(*p.server).resumed;
}

context_ptr client_context() {
  auto made = transport::make_client_context(client_options());
  (*made)->remember_sessions();
  return *made;
}

} // namespace

BOOST_AUTO_TEST_CASE(clients_resume_as_long_as_the_key_is_known) {
  run([](detail::shard &home) -> task<> {
    const auto client = client_context();
    const auto server = *transport::make_server_context(server_options());
    bool resumed = co_await resumes(home, client, server);
    BOOST_TEST(!resumed);
    for (int i = 0; i < 3; ++i) { // each time by a new ticket
      resumed = co_await resumes(home, client, server);
      BOOST_TEST(resumed);
    }
    const auto now = detail::clock::now();
    BOOST_TEST(server->tickets()->renew(now));
    resumed = co_await resumes(home, client, server);
    BOOST_TEST(resumed);
    BOOST_TEST(server->tickets()->renew(now));
    resumed = co_await resumes(home, client, server); // by the ticket that the last one brought
    BOOST_TEST(resumed);
    BOOST_TEST(server->tickets()->renew(now));
    BOOST_TEST(server->tickets()->renew(now));
    resumed = co_await resumes(home, client, server);
    BOOST_TEST(!resumed);
    // Those of one context are another's only when they are shared.
    const auto next = *transport::make_server_context(server_options());
    resumed = co_await resumes(home, client, next);
    BOOST_TEST(!resumed);
    const auto heir = *transport::make_server_context(server_options());
    heir->share_tickets(*next);
    resumed = co_await resumes(home, client, heir);
    BOOST_TEST(resumed);
    BOOST_TEST(next->tickets()->renew(now));
    BOOST_TEST(next->tickets()->renew(now));
    resumed = co_await resumes(home, client, heir);
    BOOST_TEST(!resumed);
  });
}

BOOST_AUTO_TEST_SUITE_END()
