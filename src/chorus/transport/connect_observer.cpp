#include <chorus/transport/connect_observer.hpp>

namespace chorus {

void connect_observer::on_started() {}
void connect_observer::on_resolved(std::span<const std::string>) {}
void connect_observer::on_connected(std::string_view, std::string_view) {}
void connect_observer::on_proxied() {}
void connect_observer::on_certificate(const tls_certificate &) {}
void connect_observer::on_secured(const tls_info &) {}
void connect_observer::on_upgraded(unsigned, std::span<const std::pair<std::string, std::string>>) {
}
void connect_observer::on_redirected(unsigned, std::string_view) {}

} // namespace chorus
