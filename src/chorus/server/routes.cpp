#include <chorus/server/routes.hpp>

#include <chorus/server/router.hpp>
#include <chorus/server/static_files.hpp>

#include <utility>

namespace chorus {

routes::routes() : table_(std::make_unique<detail::router>()) {}
routes::routes(routes &&other) noexcept : table_(std::move(other.table_)) {
  other.table_ = std::make_unique<detail::router>();
}
routes &routes::operator=(routes &&other) noexcept {
  table_.swap(other.table_);
  return *this;
}
routes::~routes() = default;

void routes::route(std::string_view pattern, handler h, route_options options) {
  table_->add(pattern, std::move(h), std::move(options));
}
void routes::get(std::string_view pattern, page p) { table_->add(pattern, "GET", std::move(p)); }
void routes::post(std::string_view pattern, page p) { table_->add(pattern, "POST", std::move(p)); }
void routes::put(std::string_view pattern, page p) { table_->add(pattern, "PUT", std::move(p)); }
void routes::patch(std::string_view pattern, page p) {
  table_->add(pattern, "PATCH", std::move(p));
}
void routes::del(std::string_view pattern, page p) { table_->add(pattern, "DELETE", std::move(p)); }

void routes::files(std::string_view prefix, const std::string &directory, file_options options) {
  detail::add_files(*table_, prefix, directory, std::move(options));
}

void routes::assets(std::string_view prefix, const std::vector<asset> &assets,
                    file_options options) {
  detail::add_assets(*table_, prefix, assets, std::move(options));
}

void routes::mount(std::string_view prefix, routes &&part) {
  table_->absorb(prefix, std::move(*part.table_));
}

} // namespace chorus
