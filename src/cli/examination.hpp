#pragma once
// The one connection that `chorus probe` makes, and what it tells of each stage.

#include "probe_report.hpp"

#include <chorus/base/url.hpp>

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cli {

class examination final : public chorus::connect_observer {
public:
  // All but `target` outlive it. `where`: what `target` says.
  examination(const probe_settings &settings, probe_report &report, const chorus::url &where,
              std::string target)
      : settings_(settings), report_(report), where_(where), target_(std::move(target)) {}

  // Connects, measures, closes; completes when the report is finished.
  chorus::task<status> run();

private:
  void on_started() override;
  void on_resolved(std::span<const std::string> addresses) override;
  void on_connected(std::string_view remote, std::string_view local) override;
  void on_proxied() override;
  void on_certificate(const chorus::tls_certificate &shown) override;
  void on_secured(const chorus::tls_info &agreed) override;
  void on_upgraded(unsigned code,
                   std::span<const std::pair<std::string, std::string>> headers) override;
  void on_redirected(unsigned code, std::string_view to) override;

  chorus::task<chorus::result<>> round_trips(chorus::session s);
  chorus::task<chorus::result<>> close(chorus::session s);
  status give_up(const chorus::failure &why);
  std::string name_of(chorus::stage where) const;
  // The stages of this URL, in their order.
  std::vector<std::string> expected() const;
  probe_stage done(std::string name, std::string summary);
  void describe(probe_stage &s) const; // the certificate
  void tell_tls();                     // that it is done

  const probe_settings &settings_;
  probe_report &report_;
  chorus::url where_;
  const std::string target_; // as it was given
  std::chrono::steady_clock::time_point mark_ = std::chrono::steady_clock::now();
  bool proxied_ = false;
  bool resolved_ = false;
  bool connected_ = false;
  std::string current_; // when a failure itself does not say
  std::optional<chorus::tls_certificate> certificate_;
  // Kept till something came through it: a server of TLS 1.3 refuses a client's certificate after the
  // handshake.
  std::optional<probe_stage> secured_;
};

// No credentials, and no token: a report is made to be shown.
std::string without_query(const chorus::url &where);

} // namespace cli
