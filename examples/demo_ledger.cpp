#include "demo_ledger.hpp"

#include <algorithm>

namespace demo {

ledger::ledger(std::size_t clients) : clients_(clients), server_of_(1) {}

std::uint64_t ledger::publish(unsigned server) {
  server_of_.push_back(static_cast<std::uint8_t>(server));
  return ++published_;
}

std::size_t ledger::sit_down(std::size_t client, unsigned server) {
  std::lock_guard lock(mutex_);
  auto &mine = clients_[client].seatings;
  if (std::none_of(mine.begin(), mine.end(), [&](const seating &s) { return s.server == server; }))
    ++joined_[server];
  mine.push_back({.server = server, .begin = published_});
  return mine.size() - 1;
}

void ledger::stand_up(std::size_t client, std::size_t place, const chorus::session_stats &stats) {
  std::lock_guard lock(mutex_);
  auto &s = clients_[client].seatings[place];
  s.end = published_;
  s.planned = paused_;
  s.cut = s.server == cut_;
  s.over = true;
  s.sent = stats.messages_sent;
  s.dropped = stats.messages_dropped;
  s.unsent = stats.messages_unsent;
  s.confirmed = stats.messages_confirmed;
}

void ledger::upstream(std::size_t client, std::uint64_t number) {
  ++upstream_;
  std::lock_guard lock(mutex_);
  auto &mine = clients_[client];
  ++mine.up_received;
  if (number <= mine.up_last)
    mine.up_complaint = "the server got message " + std::to_string(number) + " after " +
                        std::to_string(mine.up_last);
  mine.up_last = number;
}

void ledger::receive(std::size_t client, std::uint64_t number) {
  ++deliveries_;
  auto &mine = clients_[client];
  if (number <= mine.last && mine.complaint.empty())
    mine.complaint = "got " + std::to_string(number) + " after " + std::to_string(mine.last);
  mine.last = number;
  if (mine.got.size() <= number)
    mine.got.resize(number + 1);
  mine.got[number] = true;
}

void ledger::closed(std::size_t client, const chorus::client_stats &stats) {
  clients_[client].stats = stats;
}

// Every number goes to the seating during which it was published. Then the server's count of copies
// must be the client's count of arrivals and absences.
void ledger::settle(std::size_t client, totals &t) {
  auto &mine = clients_[client];
  mine.got.resize(published_ + 1);
  struct tally {
    std::uint64_t received = 0, missing = 0; // of what was published while seated
    std::uint64_t gaps = 0;                  // missing before the last one received
    std::uint64_t before = 0;                // not received, published just before the seating
  };
  std::vector<tally> tallies(mine.seatings.size());
  std::uint64_t down = 0;
  std::uint64_t absent = 0;

  std::size_t at = 0;
  for (std::uint64_t n = 1; n <= published_; ++n) {
    if (server_of_[n] == 0) {
      down += 1;
      if (mine.got[n])
        mine.complaint = "got " + std::to_string(n) + ", which was never published";
      continue;
    }
    while (at < mine.seatings.size() &&
           (mine.seatings[at].end < n || mine.seatings[at].server < server_of_[n]))
      ++at;
    const bool has_seat = at < mine.seatings.size() && mine.seatings[at].server == server_of_[n];
    if (!has_seat) {
      absent += 1;
      if (mine.got[n])
        mine.complaint = "got " + std::to_string(n) + " without being a member";
      continue;
    }
    auto &tally = tallies[at];
    if (mine.got[n]) {
      tally.received += 1;
      tally.gaps = tally.missing;
    } else if (n > mine.seatings[at].begin || tally.received != 0) {
      tally.missing += 1;
    } else {
      tally.before += 1;
    }
  }

  for (std::size_t i = 0; i < tallies.size(); ++i) {
    auto &tally = tallies[i];
    const auto &s = mine.seatings[i];
    const auto copies = s.sent + s.dropped + s.unsent;
    // Joining takes effect a moment before the handler knows of it.
    if (copies > tally.received + tally.missing) {
      const auto more = std::min(copies - tally.received - tally.missing, tally.before);
      tally.before -= more;
      tally.missing += more;
    }
    absent += tally.before;
    // A connection lost amid the publishing ended a moment before its handler knew.
    if (!s.planned && !s.cut && tally.received + tally.missing > copies) {
      const auto fewer =
          std::min(tally.received + tally.missing - copies, tally.missing - tally.gaps);
      tally.missing -= fewer;
      absent += fewer;
    }
    // Of what was published in its last moments a connection that was cut got no copy at all: what
    // counts is what arrived.
    const bool agreed =
        s.cut ? copies <= tally.received + tally.missing : copies == tally.received + tally.missing;
    if (!s.over)
      mine.complaint = "a handler is still running";
    else if (!agreed || tally.received > s.sent || tally.received < s.confirmed ||
             tally.gaps > s.dropped)
      mine.complaint = "server " + std::to_string(s.server) + " counts " + std::to_string(s.sent) +
                       " sent, " + std::to_string(s.dropped) + " dropped, " +
                       std::to_string(s.unsent) + " unsent, " + std::to_string(s.confirmed) +
                       " confirmed; the client " + std::to_string(tally.received) + " received, " +
                       std::to_string(tally.missing) + " missing, " + std::to_string(tally.gaps) +
                       " of them in between";
    const auto dropped = std::min(tally.missing, s.dropped);
    t.delivered += tally.received;
    t.dropped += dropped;
    t.unconfirmed += tally.missing - dropped;
  }
  t.server_down += down;
  t.not_yet_back += absent;

  const auto &up = mine.stats;
  const auto lost = mine.up_accepted - mine.up_received - up.messages_dropped;
  t.up_accepted += mine.up_accepted;
  t.up_received += mine.up_received;
  t.up_dropped += up.messages_dropped;
  t.up_lost += lost;
  t.up_unconfirmed += up.messages_unconfirmed;
  // An underflow above is a huge loss here.
  if (lost > up.messages_unconfirmed && mine.complaint.empty())
    mine.complaint = "of " + std::to_string(mine.up_accepted) + " messages to the server " +
                     std::to_string(mine.up_received) + " arrived, " +
                     std::to_string(up.messages_dropped) + " were dropped and only " +
                     std::to_string(up.messages_unconfirmed) + " are unconfirmed";
}

totals ledger::close_books() {
  std::lock_guard lock(mutex_);
  totals t;
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    settle(i, t);
    for (const auto *complaint : {&clients_[i].complaint, &clients_[i].up_complaint})
      if (!complaint->empty())
        t.complaints.push_back("client " + std::to_string(i) + ": " + *complaint);
  }
  if (t.sum() != published_ * clients_.size())
    t.complaints.push_back("the fates do not add up to what was published");
  if (t.up_accepted != t.up_received + t.up_dropped + t.up_lost)
    t.complaints.push_back("the messages to the server do not add up");
  return t;
}

} // namespace demo
