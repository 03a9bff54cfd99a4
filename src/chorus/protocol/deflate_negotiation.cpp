#include <chorus/protocol/deflate.hpp>
#include <chorus/protocol/header_text.hpp>

#include <algorithm>

namespace chorus::protocol {

namespace {

constexpr std::string_view extension_name = "permessage-deflate";
constexpr int largest_window = 15;

// One element of the header, its parameters taken apart. Values of 0: present without a value.
struct parsed {
  bool server_no_context_takeover = false;
  bool client_no_context_takeover = false;
  std::optional<int> server_max_window_bits;
  std::optional<int> client_max_window_bits;
};

// 8 to 15 in decimal, without leading zeros (RFC 7692 section 7.1.2).
std::optional<int> window_bits(const std::string &text) {
  if (text.size() == 1 && (text[0] == '8' || text[0] == '9'))
    return text[0] - '0';
  if (text.size() == 2 && text[0] == '1' && text[1] >= '0' && text[1] <= '5')
    return 10 + text[1] - '0';
  return std::nullopt;
}

// Nothing for unknown, repeated or malformed parameters (RFC 7692 section 7.1).
std::optional<parsed> parse(const detail::extension &ext, bool in_offer) {
  parsed result;
  for (const auto &[name, value] : ext.parameters) {
    if (name == "server_no_context_takeover" || name == "client_no_context_takeover") {
      bool &flag =
          name[0] == 's' ? result.server_no_context_takeover : result.client_no_context_takeover;
      if (flag || value)
        return std::nullopt;
      flag = true;
    } else if (name == "server_max_window_bits" || name == "client_max_window_bits") {
      auto &bits = name[0] == 's' ? result.server_max_window_bits : result.client_max_window_bits;
      if (bits)
        return std::nullopt;
      if (value)
        bits = window_bits(*value);
      else if (in_offer && name[0] == 'c')
        bits = 0;
      if (!bits)
        return std::nullopt;
    } else {
      return std::nullopt;
    }
  }
  return result;
}

int clamped(int bits) noexcept { return std::clamp(bits, 8, largest_window); }

} // namespace

std::string make_offer(const deflate_options &options) {
  if (!options.enabled)
    return {};
  std::string offer(extension_name);
  if (options.server_no_context_takeover)
    offer += "; server_no_context_takeover";
  if (options.client_no_context_takeover)
    offer += "; client_no_context_takeover";
  if (const int bits = clamped(options.server_max_window_bits); bits < largest_window)
    offer.append("; server_max_window_bits=").append(std::to_string(bits));
  offer += "; client_max_window_bits";
  if (const int bits = clamped(options.client_max_window_bits); bits < largest_window)
    offer.append("=").append(std::to_string(bits));
  return offer;
}

std::optional<deflate_params> accept_offer(std::string_view header, const deflate_options &options,
                                           std::string &response) {
  response.clear();
  if (!options.enabled)
    return std::nullopt;
  const auto offers = detail::parse_extensions(header);
  if (!offers)
    return std::nullopt;
  for (const auto &ext : *offers) {
    if (ext.name != extension_name)
      continue;
    const auto offer = parse(ext, true);
    if (!offer)
      continue;
    deflate_params agreed;
    agreed.server_no_context_takeover =
        options.server_no_context_takeover || offer->server_no_context_takeover;
    agreed.client_no_context_takeover =
        options.client_no_context_takeover || offer->client_no_context_takeover;
    agreed.server_max_window_bits =
        std::min(clamped(options.server_max_window_bits),
                 offer->server_max_window_bits.value_or(largest_window));
    // The client's window can be limited only where the client says that it understands this.
    if (const auto bits = offer->client_max_window_bits)
      agreed.client_max_window_bits =
          std::min(clamped(options.client_max_window_bits), *bits == 0 ? largest_window : *bits);
    response = extension_name;
    if (agreed.server_no_context_takeover)
      response += "; server_no_context_takeover";
    if (agreed.client_no_context_takeover)
      response += "; client_no_context_takeover";
    if (offer->server_max_window_bits || agreed.server_max_window_bits < largest_window)
      response.append("; server_max_window_bits=")
          .append(std::to_string(agreed.server_max_window_bits));
    if (agreed.client_max_window_bits < largest_window)
      response.append("; client_max_window_bits=")
          .append(std::to_string(agreed.client_max_window_bits));
    return agreed;
  }
  return std::nullopt;
}

verified_response verify_response(std::string_view header, const deflate_options &offered) {
  if (detail::trimmed(header).empty())
    return {response_verdict::declined, {}};
  const auto extensions = detail::parse_extensions(header);
  if (!extensions)
    return {response_verdict::bad_parameters, {}};
  if (extensions->empty())
    return {response_verdict::declined, {}};
  if (!offered.enabled || extensions->size() > 1 || extensions->front().name != extension_name)
    return {response_verdict::not_offered, {}};
  const auto answer = parse(extensions->front(), false);
  if (!answer)
    return {response_verdict::bad_parameters, {}};

  deflate_params agreed;
  agreed.server_no_context_takeover = answer->server_no_context_takeover;
  agreed.client_no_context_takeover =
      answer->client_no_context_takeover || offered.client_no_context_takeover;
  agreed.server_max_window_bits = answer->server_max_window_bits.value_or(largest_window);
  agreed.client_max_window_bits = std::min(answer->client_max_window_bits.value_or(largest_window),
                                           clamped(offered.client_max_window_bits));
  // What the offer demanded of the server, the answer must confirm.
  if ((offered.server_no_context_takeover && !answer->server_no_context_takeover) ||
      agreed.server_max_window_bits > clamped(offered.server_max_window_bits))
    return {response_verdict::bad_parameters, {}};
  return {response_verdict::accepted, agreed};
}

} // namespace chorus::protocol
