#include <chorus/cluster/nats.hpp>

namespace chorus {

std::shared_ptr<broker> nats(std::string_view, nats_options) { return nullptr; }

} // namespace chorus
