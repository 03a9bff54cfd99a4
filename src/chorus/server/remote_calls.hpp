#pragma once
// What servers that share an engine ask of each other: a message for one session, an end to a user's
// connections. Questions and answers go over the nodes' own channels. On the shard of the node, but for
// what is marked.

#include <chorus/async/task.hpp>
#include <chorus/server/broker_node.hpp>
#include <chorus/session/session.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace chorus::detail {

class hub;

class remote_calls : public std::enable_shared_from_this<remote_calls> {
public:
  using find_session = std::function<chorus::session(session_id)>;

  // `find` may be called from any thread.
  remote_calls(std::shared_ptr<broker_node> node, std::weak_ptr<hub> rooms, find_session find);

  // Once it is owned; before the node begins.
  void listen();
  const std::shared_ptr<broker_node> &node() const noexcept { return node_; }

  // Waiting for answers: beyond it queue_full.
  std::size_t most_calls = 65'536;

  struct letter {
    std::string node;
    session_id to = 0;
    message content;
    std::string key;
    std::chrono::milliseconds time_to_live{0};
    chorus::lane how = lane::reliable;
  };
  // Completes when the other server has sent it, or says why not, or does not answer.
  static task<result<>> send(std::shared_ptr<remote_calls> self, std::shared_ptr<letter> l);
  // Completes when the engine has taken it.
  static task<result<>> disconnect(std::shared_ptr<remote_calls> self, std::string user,
                                   close_code code, std::string reason);

private:
  struct call;
  void attend(const broker_message &m);
  void attend_send(std::string_view asker, std::string_view rest, const broker_message &m);
  void attend_answer(std::string_view rest, const message &sentence);
  void settle(std::uint64_t number, result<> r);
  static task<result<>> wait_for(std::shared_ptr<remote_calls> self, std::uint64_t number);

  const std::shared_ptr<broker_node> node_;
  const std::weak_ptr<hub> rooms_;
  const find_session find_;
  std::uint64_t number_ = 0;
  std::size_t serving_ = 0; // sends for others
  std::unordered_map<std::uint64_t, std::shared_ptr<call>> calls_;
};

} // namespace chorus::detail
