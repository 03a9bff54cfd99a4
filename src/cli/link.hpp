#pragma once
// What `connect` talks over: one session, or a client that comes back by itself.

#include <chorus/chorus.hpp>

#include <memory>
#include <string_view>

namespace cli {

class link {
public:
  virtual ~link() = default;
  virtual chorus::task<chorus::result<chorus::message>> receive() = 0;
  virtual chorus::task<chorus::result<>> send(chorus::message m) = 0;
  virtual chorus::task<chorus::result<>> flush() = 0;
  // Closes in order without waiting; `receive` fails once it is done.
  virtual void start_close(chorus::close_code code, std::string_view reason) = 0;
  // The present one.
  virtual chorus::session session() const = 0;
};

class session_link final : public link {
public:
  explicit session_link(chorus::session s) : session_(std::move(s)) {}
  chorus::task<chorus::result<chorus::message>> receive() override { return session_.receive(); }
  chorus::task<chorus::result<>> send(chorus::message m) override {
    return session_.send(std::move(m));
  }
  chorus::task<chorus::result<>> flush() override { return session_.flush(); }
  void start_close(chorus::close_code code, std::string_view reason) override {
    session_.start_close(code, reason);
  }
  chorus::session session() const override { return session_; }

private:
  chorus::session session_;
};

class client_link final : public link {
public:
  client_link(chorus::runtime &rt, chorus::client_options options)
      : runtime_(rt), client_(std::make_shared<chorus::client>(rt, std::move(options))) {}
  chorus::client &client() noexcept { return *client_; }
  chorus::task<chorus::result<chorus::message>> receive() override { return client_->receive(); }
  chorus::task<chorus::result<>> send(chorus::message m) override {
    return client_->send(std::move(m));
  }
  chorus::task<chorus::result<>> flush() override { return client_->flush(); }
  void start_close(chorus::close_code code, std::string_view reason) override;
  chorus::session session() const override { return client_->current(); }

private:
  chorus::runtime &runtime_;
  std::shared_ptr<chorus::client> client_; // shared with the coroutine that closes it
};

} // namespace cli
