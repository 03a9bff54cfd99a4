// `import chorus;`: the public API over its headers, which stay the source of truth. An importer
// still includes what it uses of the standard library, before the import.
module;

#include <chorus/chorus.hpp>
#include <chorus/json.hpp>
#include <chorus/operators.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>

export module chorus;

export namespace chorus {

// base
using chorus::backoff;
using chorus::backoff_options;
using chorus::binary;
using chorus::buffer;
using chorus::condition;
using chorus::error;
using chorus::error_category;
using chorus::error_code;
using chorus::explain;
using chorus::explanation;
using chorus::failure;
using chorus::failure_detail;
using chorus::failure_exception;
using chorus::is_secret_name;
using chorus::jitter;
using chorus::log_field;
using chorus::log_level;
using chorus::log_levels;
using chorus::log_record;
using chorus::log_room;
using chorus::log_rooms;
using chorus::log_sink;
using chorus::log_time;
using chorus::log_value;
using chorus::make_error_code;
using chorus::make_error_condition;
using chorus::message;
using chorus::message_kind;
using chorus::parse_log_levels;
using chorus::redact;
using chorus::redact_header;
using chorus::redact_text;
using chorus::remedy;
using chorus::result;
using chorus::stage;
using chorus::text;
using chorus::throw_exception_from_error;
using chorus::to_iso8601;
using chorus::to_json_line;
using chorus::to_string;
using chorus::to_text;
using chorus::to_text_line;
using chorus::tried_address;
using chorus::url;
using chorus::url_scheme;

// protocol
using chorus::close_code;
using chorus::deflate_options;
using chorus::framing;

// async
using chorus::runtime;
using chorus::runtime_options;
using chorus::sleep;
using chorus::task;

// transport
using chorus::connect_observer;
using chorus::tls_certificate;
using chorus::tls_info;
using chorus::tls_options;
using chorus::tls_verify;

// session
using chorus::heartbeat_options;
using chorus::lane;
using chorus::message_batch;
using chorus::message_view;
using chorus::overflow;
using chorus::prepared_message;
using chorus::send_options;
using chorus::session;
using chorus::session_id;
using chorus::session_options;
using chorus::session_state;
using chorus::session_stats;

// json
using chorus::from_json;
using chorus::json_array;
using chorus::json_body;
using chorus::json_convertible;
using chorus::json_limits;
using chorus::json_object;
using chorus::json_position;
using chorus::json_refusal;
using chorus::json_response;
using chorus::json_text;
using chorus::parse_json;
using chorus::receive_json;
using chorus::rpc;
using chorus::rpc_batch;
using chorus::rpc_call;
using chorus::rpc_category;
using chorus::rpc_code;
using chorus::rpc_error;
using chorus::rpc_error_of;
using chorus::rpc_failure;
using chorus::rpc_methods;
using chorus::rpc_options;
using chorus::rpc_over;
using chorus::rpc_request_options;
using chorus::rpc_stats;
using chorus::send_json;
using chorus::to_json;
using chorus::to_message;

// client
using chorus::client;
using chorus::client_group;
using chorus::client_listener;
using chorus::client_options;
using chorus::client_outcome;
using chorus::client_send_options;
using chorus::client_standing;
using chorus::client_state;
using chorus::client_stats;
using chorus::connect;
using chorus::connect_all_options;
using chorus::connect_options;
using chorus::create_client;
using chorus::event_handler;
using chorus::header;
using chorus::placed_message;
using chorus::reconnect_policy;
using chorus::reconnect_question;
using chorus::recovery;
using chorus::resume_mode;
using chorus::send_all_options;
using chorus::unsent_message;
using chorus::unsent_reason;
using chorus::url_order;

// server
using chorus::admin_options;
using chorus::admission;
using chorus::asset;
using chorus::authorize_hook;
using chorus::away_policy;
using chorus::broadcast_options;
using chorus::broadcast_report;
using chorus::broker;
using chorus::broker_change;
using chorus::broker_listener;
using chorus::broker_member;
using chorus::broker_members;
using chorus::broker_message;
using chorus::broker_page;
using chorus::broker_position;
using chorus::broker_stats;
using chorus::broker_status;
using chorus::delivery;
using chorus::drain_options;
using chorus::drain_report;
using chorus::exclusion;
using chorus::file_options;
using chorus::handover_offer;
using chorus::inheritance;
using chorus::inherited_socket;
using chorus::inherited_sockets;
using chorus::join_hook;
using chorus::join_options;
using chorus::join_request;
using chorus::make_memory_broker;
using chorus::max_broker_name;
using chorus::max_user_name;
using chorus::member;
using chorus::member_delivery;
using chorus::member_entry;
using chorus::member_filter;
using chorus::mount_options;
using chorus::over_limit;
using chorus::over_rate;
using chorus::over_user_limit;
using chorus::presence_change;
using chorus::presence_entry;
using chorus::presence_event;
using chorus::presence_text;
using chorus::proxy_protocol;
using chorus::publish_options;
using chorus::rate_options;
using chorus::request;
using chorus::request_of;
using chorus::response;
using chorus::resume_stats;
using chorus::room;
using chorus::room_options;
using chorus::room_stats;
using chorus::route_options;
using chorus::routes;
using chorus::seat;
using chorus::server;
using chorus::server_options;
using chorus::server_stats;
using chorus::stop_report;
using chorus::take_over;

namespace operators {
using boost::asio::experimental::awaitable_operators::operator||;
using boost::asio::experimental::awaitable_operators::operator&&;
} // namespace operators

// What tasks need of Asio. Its tokens have internal linkage in Boost 1.81 and can't be exported, so
// these are objects of the same types under the same names.
namespace asio {
using boost::asio::any_io_executor;
using boost::asio::co_spawn;
using boost::asio::dispatch;
using boost::asio::io_context;
using boost::asio::post;
using boost::asio::steady_timer;
inline constexpr boost::asio::use_awaitable_t<> use_awaitable{};
inline constexpr boost::asio::detached_t detached{};
namespace this_coro {
inline constexpr boost::asio::this_coro::executor_t executor{};
} // namespace this_coro
} // namespace asio

// The values that the JSON functions take and give.
namespace json {
using boost::json::array;
using boost::json::object;
using boost::json::string;
using boost::json::value;
} // namespace json

} // namespace chorus
