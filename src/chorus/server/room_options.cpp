#include <chorus/server/room_options.hpp>

namespace chorus::detail {

std::string_view complaint_about(const room_options &given) noexcept {
  using std::chrono::milliseconds;
  constexpr std::chrono::hours too_long{24 * 365};
  if (given.history_age < milliseconds::zero() || given.history_age > too_long)
    return "history_age must be between zero, for no bound, and a year";
  if (given.history_linger < milliseconds::zero() || given.history_linger > too_long)
    return "history_linger must be between zero, for rooms that vanish at once, and a year";
  if (given.keeps_history() && given.history_bytes == 0)
    return "history_bytes must be more than zero where history is kept";
  if (given.time_to_live < milliseconds::zero())
    return "time_to_live must not be negative; zero sets no such bound";
  if (given.presence_grace < milliseconds::zero() || given.presence_grace > std::chrono::hours(24))
    return "presence_grace must be between zero, for none, and a day";
  if (given.when_away > away_policy::degrade)
    return "when_away must be one of refuse, buffer and degrade";
  if (given.when_away != away_policy::refuse && (given.away_messages == 0 || given.away_bytes == 0))
    return "away_messages and away_bytes must be more than zero unless when_away is refuse";
  return {};
}

} // namespace chorus::detail
