#include <chorus/base/redact.hpp>

#include <boost/test/unit_test.hpp>

#include <vector>

using namespace chorus;

BOOST_AUTO_TEST_SUITE(redacting)

BOOST_AUTO_TEST_CASE(names) {
  for (const char *secret :
       {"token", "access_token", "accessToken", "ACCESS-TOKEN", "accesstoken", "key", "api_key",
        "X-Api-Key", "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "password",
        "userPassword", "client.secret", "sig", "X-CSRF-Token", "Sec-WebSocket-Key", "ticket"})
    BOOST_TEST(is_secret_name(secret), secret);
  for (const char *plain : {"", "name", "keyboard", "author", "monkey", "room", "user_id",
                            "tokens_left", "Host", "spin", "design"})
    BOOST_TEST(!is_secret_name(plain), plain);
}

BOOST_AUTO_TEST_CASE(targets) {
  BOOST_TEST(redact("/chat?room=1&token=abc&x=2") == "/chat?room=1&token=***&x=2");
  BOOST_TEST(redact("/chat?tok%65n=abc") == "/chat?tok%65n=***");
  BOOST_TEST(redact("/chat?token=a=b") == "/chat?token=***");
  BOOST_TEST(redact("/chat?token=&a;key=b") == "/chat?token=&a;key=***");
  BOOST_TEST(redact("/chat?token") == "/chat?token");
  BOOST_TEST(redact("/chat?") == "/chat?");
  BOOST_TEST(redact("/chat") == "/chat");
  BOOST_TEST(redact("") == "");
  BOOST_TEST(redact("/a#token=abc") == "/a#***");
  BOOST_TEST(redact("wss://u:secret@host:1/p?api_key=k&b=1#f") ==
             "wss://***@host:1/p?api_key=***&b=1#***");
  BOOST_TEST(redact("wss://host/p@q") == "wss://host/p@q");
  // Only what stands before the path is a scheme.
  BOOST_TEST(redact("/cb?access_token=S3CRET&redirect_uri=https://app/x") ==
             "/cb?access_token=***&redirect_uri=https://app/x");
  BOOST_TEST(redact("/go/https://app/x?token=abc") == "/go/https://app/x?token=***");
  BOOST_TEST(redact("?token=a://b") == "?token=***");
  BOOST_TEST(redact("#a://b?token=c") == "#***");
  BOOST_TEST(redact("host?token=a&to=b://c@d") == "host?token=***&to=b://c@d");
}

BOOST_AUTO_TEST_CASE(headers) {
  BOOST_TEST(redact_header("Authorization", "Bearer abc") == "Bearer ***");
  BOOST_TEST(redact_header("AUTHORIZATION", "abc") == "***");
  BOOST_TEST(redact_header("Cookie", "a=b; c=d") == "***");
  BOOST_TEST(redact_header("Cookie", "") == "");
  BOOST_TEST(redact_header("Host", "example.org") == "example.org");
}

BOOST_AUTO_TEST_CASE(texts) {
  const std::vector<std::string_view> secrets{"abcd", "abcdef", "abc", ""};
  BOOST_TEST(redact_text("x abcdef abcd abc y", secrets) == "x *** *** abc y");
}

BOOST_AUTO_TEST_SUITE_END()
