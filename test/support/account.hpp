#pragma once
// Keeps account of messages: what was sent, what became of it, and who got it; says what does not
// balance. A message is "publisher:number", perhaps with more behind a blank; the numbers of one publisher
// grow in the order in which it sent.
//
// Of what was accepted every reader that resumes has to have each exactly once, or was told in that place
// that it can't be; of what is unconfirmed at most once, and where nothing may be lost all readers or none; of
// what was refused nothing; and all in one order, which is also that of each publisher. From any thread.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace test_support {

class account {
public:
  enum class outcome : std::uint8_t { accepted, refused, unconfirmed };
  enum class reading : std::uint8_t { resuming, plain };
  enum class losses : std::uint8_t {
    none, // nobody may have missed anything, nor been told so
    told, // who resumes may have missed what it was told of, and plain ones what they did
  };
  struct sums {
    std::size_t sent = 0, accepted = 0, refused = 0, unconfirmed = 0;
  };

  void sent(const std::string &message);
  void became(const std::string &message, outcome what, const std::string &why = {});
  // Gives its number.
  std::size_t open(std::string name, reading how);
  void got(std::size_t reader, std::string message);
  void not_recovered(std::size_t reader, std::string why);

  sums sum() const;
  // Whether each reader, or each that resumes, has got this, the last that is sent.
  bool all_have(const std::string &message, bool plain_too = false) const;

  // What does not balance, a sentence each, the first hundred; empty: it balances.
  std::vector<std::string> complaints(losses allowed) const;
  // A table, for people.
  std::string print() const;

private:
  struct fate {
    std::size_t answers = 0; // how often it was told
    outcome what = outcome::unconfirmed;
  };
  struct entry {
    bool told = false; // that it was not recovered
    std::string text;  // message, or why
  };
  struct book {
    std::string name;
    reading how;
    std::vector<entry> entries;
  };
  class audit;

  static std::string publisher_of(const std::string &message);
  static std::uint64_t number_of(const std::string &message);

  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::uint64_t, fate>> sent_; // by publisher and number
  std::map<std::string, std::size_t> reasons_;                // of what was not accepted
  std::vector<std::string> strange_;                          // answers to what was not sent
  std::vector<book> books_;
};

} // namespace test_support
