#include "support/account.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace test_support {

std::string account::publisher_of(const std::string &message) {
  return message.substr(0, message.find(':'));
}
std::uint64_t account::number_of(const std::string &message) {
  std::uint64_t number = UINT64_MAX;
  const auto at = message.find(':');
  if (at != message.npos)
    std::from_chars(message.data() + at + 1, message.data() + message.size(), number);
  return number;
}

void account::sent(const std::string &message) {
  std::lock_guard lock(mutex_);
  sent_[publisher_of(message)].try_emplace(number_of(message));
}
void account::became(const std::string &message, outcome what, const std::string &why) {
  std::lock_guard lock(mutex_);
  auto &all = sent_[publisher_of(message)];
  const auto found = all.find(number_of(message));
  if (found == all.end()) {
    strange_.push_back("an answer came for " + message + ", which was not sent");
    return;
  }
  ++found->second.answers;
  found->second.what = what;
  if (what != outcome::accepted)
    ++reasons_[why];
}
std::size_t account::open(std::string name, reading how) {
  std::lock_guard lock(mutex_);
  books_.push_back({std::move(name), how, {}});
  return books_.size() - 1;
}
void account::got(std::size_t reader, std::string message) {
  std::lock_guard lock(mutex_);
  books_.at(reader).entries.push_back({false, std::move(message)});
}
void account::not_recovered(std::size_t reader, std::string why) {
  std::lock_guard lock(mutex_);
  books_.at(reader).entries.push_back({true, std::move(why)});
}

account::sums account::sum() const {
  std::lock_guard lock(mutex_);
  sums total;
  for (const auto &[name, all] : sent_)
    for (const auto &[number, one] : all) {
      ++total.sent;
      if (one.answers != 0)
        ++(one.what == outcome::accepted  ? total.accepted
           : one.what == outcome::refused ? total.refused
                                          : total.unconfirmed);
    }
  return total;
}
bool account::all_have(const std::string &message, bool plain_too) const {
  std::lock_guard lock(mutex_);
  return std::all_of(books_.begin(), books_.end(), [&](const book &b) {
    // The last ones are the likeliest.
    return (b.how == reading::plain && !plain_too) ||
           std::any_of(b.entries.rbegin(), b.entries.rend(),
                       [&](const entry &e) { return !e.told && e.text == message; });
  });
}

// One look at everything, under the lock.
class account::audit {
public:
  audit(const account &of, losses allowed) : of_(of), allowed_(allowed) {}

  std::vector<std::string> run() {
    said_ = of_.strange_;
    for (const auto &[publisher, all] : of_.sent_)
      for (const auto &[number, one] : all)
        if (one.answers != 1)
          say(name(publisher, number) +
              (one.answers == 0 ? " was sent and never answered" : " was answered more than once"));
    for (const auto &b : of_.books_)
      read(b);
    if (allowed_ == losses::none)
      for (const auto &[publisher, all] : of_.sent_)
        for (const auto &[number, one] : all)
          if (one.answers != 0 && one.what == outcome::unconfirmed)
            same_for_all(name(publisher, number));
    for (std::size_t i = 0; i < of_.books_.size(); ++i)
      for (std::size_t j = i + 1; j < of_.books_.size(); ++j)
        compare(of_.books_[i], of_.books_[j]);
    return std::move(said_);
  }

private:
  // What a reader has of one publisher.
  struct had {
    std::map<std::uint64_t, std::size_t> numbers; // and when: its place among the entries
    std::uint64_t newest = 0;
    bool any = false;
  };

  static std::string name(const std::string &publisher, std::uint64_t number) {
    return publisher + ':' + std::to_string(number);
  }
  void say(std::string what) {
    if (said_.size() < 100)
      said_.push_back(std::move(what));
  }
  void read(const book &b) {
    std::map<std::string, had> all;
    std::vector<std::size_t> told; // where it was told of a loss
    auto &texts = texts_.emplace_back();
    for (std::size_t at = 0; at < b.entries.size(); ++at) {
      const auto &e = b.entries[at];
      if (e.told) {
        told.push_back(at);
        if (allowed_ == losses::none)
          say(b.name + " was told that it has not recovered: " + e.text);
        continue;
      }
      take(b, all[publisher_of(e.text)], e.text, at);
      texts.insert(e.text);
    }
    for (const auto &[publisher, sent] : of_.sent_)
      for (const auto &[number, one] : sent)
        if (one.answers != 0 && one.what == outcome::accepted)
          want(b, all[publisher], publisher, number, told);
  }
  void take(const book &b, had &h, const std::string &text, std::size_t at) {
    const auto number = number_of(text);
    const auto publisher = of_.sent_.find(publisher_of(text));
    if (publisher == of_.sent_.end() || !publisher->second.contains(number))
      return say(b.name + " got " + text + ", which was not sent");
    const auto &one = publisher->second.at(number);
    if (one.answers != 0 && one.what == outcome::refused)
      say(b.name + " got " + text + ", which was refused");
    if (!h.numbers.emplace(number, at).second)
      return say(b.name + " got " + text + " twice");
    if (h.any && number < h.newest)
      say(b.name + " got " + text + " after " + name(publisher->first, h.newest));
    h.newest = std::max(h.newest, number);
    h.any = true;
  }
  void want(const book &b, const had &h, const std::string &publisher, std::uint64_t number,
            const std::vector<std::size_t> &told) {
    if (h.numbers.contains(number) || (b.how == reading::plain && allowed_ == losses::told))
      return;
    // It was told between what came before this and what came behind it.
    const auto behind = h.numbers.upper_bound(number);
    const auto until = behind == h.numbers.end() ? b.entries.size() : behind->second;
    const auto from = behind == h.numbers.begin() ? 0 : std::prev(behind)->second;
    const auto first = std::lower_bound(told.begin(), told.end(), from);
    if (first == told.end() || *first > until)
      say(b.name + " has not got " + name(publisher, number) + ", which was accepted" +
          (b.how == reading::resuming ? ", and was not told" : ""));
  }
  // Nobody knows whether it was published, but it was or was not.
  void same_for_all(const std::string &message) {
    for (std::size_t i = 0; i < texts_.size(); ++i)
      for (std::size_t j = 0; j < texts_.size(); ++j)
        if (texts_[i].contains(message) && !texts_[j].contains(message))
          return say(of_.books_[j].name + " has not got " + message +
                     ", which is unconfirmed, and which " + of_.books_[i].name + " has");
  }
  void compare(const book &one, const book &other) {
    std::unordered_map<std::string_view, std::size_t> places;
    for (std::size_t i = 0; i < one.entries.size(); ++i)
      if (!one.entries[i].told)
        places.emplace(one.entries[i].text, i);
    const entry *newest = nullptr;
    std::size_t place = 0;
    for (const auto &e : other.entries) {
      const auto found = places.find(e.text);
      if (e.told || found == places.end())
        continue;
      if (newest && found->second < place)
        say(other.name + " got " + e.text + " after " + newest->text + ", " + one.name +
            " before it");
      if (!newest || found->second > place) {
        newest = &e;
        place = found->second;
      }
    }
  }

  const account &of_;
  const losses allowed_;
  std::vector<std::unordered_set<std::string_view>> texts_; // of each reader
  std::vector<std::string> said_;
};

std::vector<std::string> account::complaints(losses allowed) const {
  std::lock_guard lock(mutex_);
  return audit(*this, allowed).run();
}

std::string account::print() const {
  const auto total = sum();
  std::lock_guard lock(mutex_);
  std::string out = "sent " + std::to_string(total.sent) + " = accepted " +
                    std::to_string(total.accepted) + " + refused " + std::to_string(total.refused) +
                    " + unconfirmed " + std::to_string(total.unconfirmed) + "\n";
  for (const auto &[why, times] : reasons_)
    out += "  " + std::to_string(times) + " times: " + why + "\n";
  for (const auto &b : books_) {
    std::set<std::string> distinct;
    std::string told;
    for (const auto &e : b.entries)
      if (e.told)
        told += (told.empty() ? "; not recovered: " : ", ") + e.text;
      else
        distinct.insert(e.text);
    out += "  " + b.name + (b.how == reading::resuming ? " (resuming)" : " (plain)") + ": " +
           std::to_string(distinct.size()) + " messages" + told + "\n";
  }
  return out;
}

} // namespace test_support
