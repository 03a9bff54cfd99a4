#include <chorus/base/explain.hpp>

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>
#include <string>

using chorus::error;
using chorus::explain;
using chorus::failure;
using chorus::failure_detail;
using chorus::remedy;
using chorus::stage;

namespace {

failure with(error code, failure_detail detail) {
  return failure(make_error_code(code), std::move(detail));
}

failure refusal(unsigned status, std::string body = {}) {
  failure_detail detail;
  detail.where = stage::upgrade;
  detail.address = "192.0.2.1:80";
  detail.status = status;
  detail.body = std::move(body);
  detail.sentence = "the server answered the upgrade with " + std::to_string(status);
  detail.hint = "do something about it";
  return with(error::upgrade_refused, std::move(detail));
}

} // namespace

BOOST_AUTO_TEST_SUITE(explaining)

BOOST_AUTO_TEST_CASE(every_kind_of_failure_has_its_remedy) {
  for (const auto &[code, expected] :
       {std::pair{error::bad_url, remedy::correct_url},
        std::pair{error::resolve_failed, remedy::check_name},
        std::pair{error::connect_failed, remedy::start_server},
        std::pair{error::connect_timeout, remedy::check_network},
        std::pair{error::tls_not_tls, remedy::use_plain_scheme},
        std::pair{error::tls_expired, remedy::renew_certificate},
        std::pair{error::tls_wrong_host, remedy::use_certificate_name},
        std::pair{error::tls_unknown_issuer, remedy::trust_authority},
        std::pair{error::tls_bad_certificate, remedy::check_certificate},
        std::pair{error::tls_wrong_key, remedy::check_certificate},
        std::pair{error::upgrade_invalid, remedy::use_other_scheme},
        std::pair{error::upgrade_timeout, remedy::use_other_scheme},
        std::pair{error::proxy_invalid, remedy::check_proxy},
        std::pair{error::no_protocol, remedy::use_other_scheme},
        std::pair{error::queue_full, remedy::none}}) {
    const auto e = explain(failure(code));
    BOOST_TEST_CONTEXT(e.what) {
      BOOST_CHECK(e.remedy == expected);
      BOOST_TEST(e.what == make_error_code(code).message());
    }
  }
  for (const auto &[status, expected] :
       {std::pair{401U, remedy::give_credentials}, std::pair{403U, remedy::check_permission},
        std::pair{404U, remedy::check_path}, std::pair{200U, remedy::check_path},
        std::pair{302U, remedy::follow_redirect}, std::pair{407U, remedy::proxy_credentials},
        std::pair{426U, remedy::change_version}, std::pair{429U, remedy::try_later},
        std::pair{500U, remedy::try_later}, std::pair{503U, remedy::try_later},
        std::pair{505U, remedy::change_version}})
    BOOST_CHECK(explain(refusal(status)).remedy == expected);
}

BOOST_AUTO_TEST_CASE(no_way_to_a_host_is_no_server_that_does_not_run) {
  namespace errc = boost::system::errc;
  const auto of = [](std::vector<errc::errc_t> each) {
    failure_detail detail;
    for (const auto why : each)
      detail.tried.push_back({"192.0.2.1:80", errc::make_error_code(why)});
    return explain(with(error::connect_failed, std::move(detail))).remedy;
  };
  BOOST_CHECK(of({errc::connection_refused}) == remedy::start_server);
  BOOST_CHECK(of({errc::network_unreachable}) == remedy::check_network);
  BOOST_CHECK(of({errc::host_unreachable}) == remedy::check_network);
  BOOST_CHECK(of({errc::address_not_available}) == remedy::check_network);
  BOOST_CHECK(of({errc::network_down}) == remedy::check_network);
  BOOST_CHECK(of({errc::permission_denied}) == remedy::check_permission);
  BOOST_CHECK(of({errc::no_such_file_or_directory}) == remedy::start_server);
  // What a started server would not change.
  for (const auto other : {errc::too_many_files_open, errc::invalid_argument,
                           errc::connection_reset, errc::no_buffer_space})
    BOOST_CHECK(of({other}) == remedy::none);
  // The last that said no is the one that the sentence is about.
  BOOST_CHECK(of({errc::network_unreachable, errc::connection_refused, errc::timed_out}) ==
              remedy::start_server);
  BOOST_CHECK(of({errc::connection_refused, errc::network_unreachable}) == remedy::check_network);
}

BOOST_AUTO_TEST_CASE(says_where_and_what_the_peer_said) {
  const auto e = explain(refusal(401, "no\r\n\x1b[31mticket\n"));
  BOOST_CHECK(e.where == stage::upgrade);
  BOOST_TEST(e.address == "192.0.2.1:80");
  BOOST_TEST(e.what == "the server answered the upgrade with 401");
  BOOST_TEST(e.hint == "do something about it");
  BOOST_TEST(e.said == "status 401: no   [31mticket");
  BOOST_TEST(to_text(e) == "the server answered the upgrade with 401; do something about it "
                           "[192.0.2.1:80]; the peer says: status 401: no   [31mticket");
  BOOST_TEST(explain(refusal(401, std::string(2000, 'x'))).said.size() == 300U);

  failure_detail alert;
  alert.where = stage::tls;
  alert.tls_alert = "handshake failure";
  BOOST_TEST(explain(with(error::tls_failed, alert)).said == "TLS alert \"handshake failure\"");
  BOOST_CHECK(explain(with(error::tls_failed, alert)).remedy == remedy::none);
  alert.tls_alert = "certificate required";
  BOOST_CHECK(explain(with(error::tls_failed, alert)).remedy == remedy::give_certificate);
  BOOST_CHECK(explain(with(error::lost, alert)).remedy == remedy::give_certificate);
  BOOST_CHECK(remedy_of(with(error::lost, alert)) == remedy::give_certificate);
  alert.tls_alert = "unknown CA";
  BOOST_CHECK(explain(with(error::tls_failed, alert)).remedy == remedy::replace_certificate);
  BOOST_TEST(to_string(remedy::replace_certificate) == "replace_certificate");

  failure_detail close;
  close.by_peer = true;
  close.close_code = 1013;
  close.close_reason = "later";
  const auto busy = explain(with(error::closed, close));
  BOOST_TEST(busy.said == "close 1013: later");
  BOOST_CHECK(busy.remedy == remedy::try_later);
  close.by_peer = false;
  BOOST_TEST(explain(with(error::closed, close)).said.empty());
}

BOOST_AUTO_TEST_CASE(no_byte_of_a_peers_is_a_terminals_command) {
  const auto said = [](std::string body) {
    const auto out = explain(refusal(400, std::move(body))).said;
    BOOST_REQUIRE(out.starts_with("status 400: "));
    return out.substr(12);
  };
  BOOST_TEST(said("a\xc2\x9b?2J") == "a ?2J");                    // CSI
  BOOST_TEST(said("a\x9b?2J") == "a??2J");                        // the same in ISO 8859
  BOOST_TEST(said("a\xc2\x80\xc2\x9f\xc2\xa0") == "a  \xc2\xa0"); // the first and last of C1
  BOOST_TEST(said("a\xe2\x80\xae|") == "a |");                    // right to left from here
  BOOST_TEST(said("\xc0\x9b \xed\xa0\x80 \xf5 \xe2\x82") == "?? ??? ? ??");
  BOOST_TEST(said("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82") ==
             "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82");
  // Of 300 bytes the status takes 12, these two and 95 characters 287.
  std::string euros = "xy";
  for (int i = 0; i < 200; ++i)
    euros += "\xe2\x82\xac";
  const auto cut = said(euros);
  BOOST_TEST(cut.size() == 287U);
  BOOST_TEST(cut.ends_with("\xe2\x82\xac"));
  BOOST_TEST(explain(failure(error::closed, stage::open, "a\xc2\x9b\x1b|\xff")).what == "a  |?");
}

BOOST_AUTO_TEST_CASE(each_failure_on_the_way_has_a_hint) {
  struct row {
    error code;
    stage where;
    const char *part;
  };
  for (const auto &[code, where, part] :
       {row{error::resolve_failed, stage::resolve, "spelling"},
        row{error::resolve_timeout, stage::resolve, "DNS"},
        row{error::connect_failed, stage::connect, "is the server running, is the port right?"},
        row{error::connect_timeout, stage::connect, "firewall"},
        row{error::tls_not_tls, stage::tls, "ws://"},
        row{error::tls_timeout, stage::tls, "another protocol"},
        row{error::tls_expired, stage::tls, "clock"},
        row{error::tls_wrong_host, stage::tls, "name that the certificate holds"},
        row{error::tls_unknown_issuer, stage::tls, "ca_file"},
        row{error::upgrade_invalid, stage::upgrade, "another protocol"},
        row{error::upgrade_timeout, stage::upgrade, "another protocol"},
        row{error::lost, stage::upgrade, "another protocol"},
        row{error::proxy_refused, stage::proxy, "proxy's address"},
        row{error::proxy_invalid, stage::proxy, "proxy's address"},
        row{error::proxy_timeout, stage::proxy, "proxy's address"}}) {
    const auto e = explain(failure(code, where, "it failed"));
    BOOST_TEST_CONTEXT(make_error_code(code).message()) {
      BOOST_TEST(e.what == "it failed");
      BOOST_TEST(e.hint.find(part) != std::string::npos);
      BOOST_TEST(to_text(e) == "it failed; " + e.hint);
    }
    // The code's own message may say it already.
    const auto bare = to_text(explain(failure(code)));
    BOOST_TEST(std::count(bare.begin(), bare.end(), ';') <= 1, bare);
  }
}

BOOST_AUTO_TEST_CASE(a_connection_that_breaks_is_told_by_its_stage) {
  for (const auto &[where, expected] :
       {std::pair{stage::tls, remedy::use_other_scheme},
        std::pair{stage::upgrade, remedy::use_other_scheme},
        std::pair{stage::proxy, remedy::check_proxy}, std::pair{stage::open, remedy::none}}) {
    failure_detail detail;
    detail.where = where;
    BOOST_CHECK(explain(with(error::lost, detail)).remedy == expected);
  }
}

// What its sentence and hint say of the server is not meant for the proxy.
BOOST_AUTO_TEST_CASE(a_proxy_that_is_not_reached_is_what_to_look_at) {
  namespace errc = boost::system::errc;
  for (const auto code : {error::resolve_failed, error::resolve_timeout, error::connect_failed,
                          error::connect_timeout})
    BOOST_CHECK(remedy_of(failure(code, stage::proxy, "no")) == remedy::check_proxy);
  const auto of = [](errc::errc_t why) {
    failure_detail detail;
    detail.where = stage::proxy;
    detail.tried.push_back({"192.0.2.1:80", errc::make_error_code(why)});
    return remedy_of(with(error::connect_failed, std::move(detail)));
  };
  BOOST_CHECK(of(errc::connection_refused) == remedy::check_proxy);
  BOOST_CHECK(of(errc::invalid_argument) == remedy::check_proxy);
  BOOST_CHECK(of(errc::network_unreachable) == remedy::check_network);
  BOOST_CHECK(of(errc::permission_denied) == remedy::check_permission);
}

BOOST_AUTO_TEST_CASE(a_proxy_that_wants_credentials) {
  failure_detail detail;
  detail.where = stage::proxy;
  BOOST_CHECK(remedy_of(with(error::proxy_refused, detail)) == remedy::check_proxy);
  detail.wants_credentials = true; // as SOCKS5, which has no status
  BOOST_CHECK(remedy_of(with(error::proxy_refused, detail)) == remedy::proxy_credentials);
}

BOOST_AUTO_TEST_CASE(nothing_is_said_twice) {
  const failure itself(error::connect_failed, stage::connect, "nobody there; look again");
  BOOST_TEST(explain(itself).hint.empty());
  const failure bare(error::connect_failed, stage::connect, "nobody there");
  BOOST_TEST(!explain(bare).hint.empty());
  BOOST_TEST(to_text(explain(itself)) == "nobody there; look again");
  const auto none = explain(failure());
  BOOST_CHECK(none.remedy == remedy::none);
  BOOST_CHECK(none.where == stage::none);
}

BOOST_AUTO_TEST_CASE(remedies_have_names) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(remedy::check_proxy); ++i)
    BOOST_TEST(names.insert(to_string(static_cast<remedy>(i))).second);
  BOOST_TEST(names.count("unknown") == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
