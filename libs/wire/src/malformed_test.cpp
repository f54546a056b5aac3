// Bytes that no sender of ours writes: each is decoded to something or refused with the right code,
// and nothing is thrown, crashes or costs more than its size.
#include <capnp/any.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "conclave/base/utf8.hpp"
#include "conclave/wire/message.hpp"
#include "testing_build.hpp"
#include "testing_samples.hpp"

namespace conclave::wire {
namespace {

using base::ErrorCode;
using testing::AnyOf;
using testing::HasSubstr;
using testing_build::build;
using testing_build::build_from;
using testing_build::frame;

// What the decoder makes of any bytes: a message that can be sent on unchanged, or a refusal.
void expect_decoded_or_refused(std::uint16_t type, std::span<const std::byte> bytes) {
  const auto decoded = decode(type, bytes);
  if (!decoded) {
    EXPECT_THAT(decoded.error().code, AnyOf(ErrorCode::kCorruptData, ErrorCode::kUnimplemented));
    EXPECT_FALSE(decoded.error().message.empty());
    EXPECT_TRUE(base::utf8::valid(decoded.error().message));
    return;
  }
  const auto encoded = try_encode(*decoded);
  ASSERT_TRUE(encoded) << encoded.error().to_string();
  const auto again = decode(type, *encoded);
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(encode(*again), *encoded);
}

void expect_refused(const base::Result<Message>& decoded, ErrorCode code, const char* word) {
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, code) << decoded.error().to_string();
  EXPECT_THAT(decoded.error().message, HasSubstr(word));
}

TEST(MalformedTest, RefusesEveryTruncation) {
  for (const Message& message : testing_samples::messages()) {
    SCOPED_TRACE(type_name(type_of(message)));
    const Bytes bytes = encode(message);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const auto decoded = decode(type_of(message), std::span(bytes).first(size));
      ASSERT_FALSE(decoded) << size;
      ASSERT_EQ(decoded.error().code, ErrorCode::kCorruptData) << size;
    }
  }
  const Bytes bytes = encode(testing_samples::envelope());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_FALSE(decode_envelope(std::span(bytes).first(size))) << size;
  }
}

TEST(MalformedTest, SurvivesEverySingleBitFlipped) {
  for (const Message& message : testing_samples::messages()) {
    SCOPED_TRACE(type_name(type_of(message)));
    Bytes bytes = encode(message);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      const std::byte mask{static_cast<unsigned char>(1u << bit % 8)};
      bytes[bit / 8] ^= mask;
      expect_decoded_or_refused(type_of(message), bytes);
      bytes[bit / 8] ^= mask;
    }
  }
}

TEST(MalformedTest, SurvivesEverySingleBitOfAnEnvelopeFlipped) {
  Bytes bytes = encode(testing_samples::envelope());
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const std::byte mask{static_cast<unsigned char>(1u << bit % 8)};
    bytes[bit / 8] ^= mask;
    const auto decoded = decode_envelope(bytes);
    if (decoded) {
      const auto again = decode_envelope(encode(*decoded));
      ASSERT_TRUE(again) << again.error().to_string();
      EXPECT_TRUE(*again == *decoded);
    } else {
      EXPECT_THAT(decoded.error().code, AnyOf(ErrorCode::kCorruptData, ErrorCode::kUnimplemented));
    }
    bytes[bit / 8] ^= mask;
  }
}

TEST(MalformedTest, SurvivesEveryTypeReadAsEveryOther) {
  for (const Message& message : testing_samples::messages()) {
    const Bytes bytes = encode(message);
    for (std::uint16_t type = 1; type < kMessageTypes; ++type) {
      SCOPED_TRACE(std::string(type_name(type_of(message))).append(" as ").append(type_name(type)));
      expect_decoded_or_refused(type, bytes);
    }
  }
}

TEST(MalformedTest, RefusesWhatIsNotOneSegment) {
  Bytes bytes = encode(Nudge{.epoch = 1});
  const auto refused = [&] {
    expect_refused(decode(kTypeOf<Nudge>, bytes), ErrorCode::kCorruptData, "bytes");
  };
  bytes[0] = std::byte{1};  // two segments
  refused();
  bytes[0] = std::byte{0};
  bytes.resize(bytes.size() + 8);  // a word behind the message
  refused();
  bytes.clear();
  refused();
  bytes.resize(8);  // a table only
  refused();
}

TEST(MalformedTest, RefusesAMessageWithoutRoot) {
  const Bytes bytes = frame(Bytes(8));
  for (std::uint16_t type = 1; type < kMessageTypes; ++type) {
    expect_refused(decode(type, bytes), ErrorCode::kCorruptData, "no root");
  }
  EXPECT_FALSE(decode_envelope(bytes));
}

TEST(MalformedTest, TellsOtherVersionsFromUnknownKinds) {
  const auto code = [](std::uint16_t version, std::uint16_t kind) {
    const auto decoded = decode_envelope(build<Envelope>([&](auto to) {
      to.setVersion(version);
      to.setKind(static_cast<schema::FrameKind>(kind));
    }));
    return decoded ? ErrorCode{} : decoded.error().code;
  };
  EXPECT_EQ(code(1, 1), ErrorCode{});
  EXPECT_EQ(code(1, 8), ErrorCode{});
  EXPECT_EQ(code(1, 0), ErrorCode::kCorruptData);
  EXPECT_EQ(code(1, 9), ErrorCode::kCorruptData);
  EXPECT_EQ(code(0, 1), ErrorCode::kUnimplemented);
  EXPECT_EQ(code(2, 1), ErrorCode::kUnimplemented);
}

struct EnumCase {
  const char* name;
  std::uint16_t type;
  std::uint16_t last;  // that we know
  bool zero_is_a_value;
  std::function<Bytes(std::uint16_t)> with;
};

std::vector<EnumCase> enum_cases() {
  return {
      {"Hello.role", kTypeOf<Hello>, 6, false,
       [](auto value) {
         return build_from(Hello{},
                           [&](auto to) { to.setRole(static_cast<schema::NodeRole>(value)); });
       }},
      {"Error.code", kTypeOf<ErrorBody>, 10, false,
       [](auto value) {
         return build<ErrorBody>(
             [&](auto to) { to.initError().setCode(static_cast<schema::ErrorCode>(value)); });
       }},
      {"Generate.kind", kTypeOf<Generate>, 3, false,
       [](auto value) {
         return build_from(Generate{},
                           [&](auto to) { to.setKind(static_cast<schema::PromptKind>(value)); });
       }},
      {"TokenizeRequest.kind", kTypeOf<TokenizeRequest>, 3, false,
       [](auto value) {
         return build_from(TokenizeRequest{},
                           [&](auto to) { to.setKind(static_cast<schema::PromptKind>(value)); });
       }},
      {"TokenEvent.finish", kTypeOf<TokenEvents>, 4, true,
       [](auto value) {
         return build<TokenEvents>([&](auto to) {
           to.initStreams(1)[0].initTokens(1)[0].setFinish(
               static_cast<schema::FinishReason>(value));
         });
       }},
      {"ExpertCall.forms", kTypeOf<ExpertCall>, 3, false,
       [](auto value) {
         return build_from(ExpertCall{},
                           [&](auto to) { to.setForms(static_cast<schema::RowForms>(value)); });
       }},
      {"NodeReport.role", kTypeOf<NodeReport>, 6, false,
       [](auto value) {
         return build_from(NodeReport{},
                           [&](auto to) { to.setRole(static_cast<schema::NodeRole>(value)); });
       }},
      {"NodeReport.state", kTypeOf<NodeReport>, 3, false,
       [](auto value) {
         return build_from(NodeReport{},
                           [&](auto to) { to.setState(static_cast<schema::NodeState>(value)); });
       }},
  };
}

TEST(MalformedTest, KnowsEveryEnumerantAndNoOther) {
  for (const EnumCase& test : enum_cases()) {
    SCOPED_TRACE(test.name);
    for (std::uint16_t value = 1; value <= test.last; ++value) {
      EXPECT_TRUE(decode(test.type, test.with(value))) << value;
    }
    for (const int value : {test.last + 1, 255, 256, 65535}) {
      expect_refused(decode(test.type, test.with(static_cast<std::uint16_t>(value))),
                     ErrorCode::kUnimplemented, std::to_string(value).c_str());
    }
    const auto zero = decode(test.type, test.with(0));
    if (test.zero_is_a_value) {
      EXPECT_TRUE(zero);
    } else {
      expect_refused(zero, ErrorCode::kCorruptData, "not set");
    }
  }
}

TEST(MalformedTest, RefusesALimitOfTokensOfAnUnknownForm) {
  Bytes bytes = encode(Generate{});
  Generate limited;
  limited.max_tokens = 0;
  const Bytes other = encode(limited);
  ASSERT_EQ(bytes.size(), other.size());
  // Where the two differ is the union's tag.
  const auto tag = std::mismatch(bytes.begin(), bytes.end(), other.begin()).first;
  ASSERT_NE(tag, bytes.end());
  *tag = std::byte{2};
  expect_refused(decode(kTypeOf<Generate>, bytes), ErrorCode::kUnimplemented, "max_tokens");
}

TEST(MalformedTest, RefusesTextThatIsNotUtf8) {
  const std::vector<std::pair<std::uint16_t, Bytes>> cases = {
      {kTypeOf<Hello>, build_from(Hello{}, [](auto to) { to.setNode("\xFF"); })},
      {kTypeOf<Generate>, build_from(Generate{}, [](auto to) { to.setText("a\xE2\x82"); })},
      {kTypeOf<Generate>, build_from(Generate{}, [](auto to) { to.initStop(1).set(0, "\x80"); })},
      {kTypeOf<TokenEvents>, build<TokenEvents>([](auto to) {
         to.initStreams(1)[0].initTokens(1)[0].setText("\xED\xA0\x80");  // a surrogate
       })},
      {kTypeOf<ErrorBody>, build<ErrorBody>([](auto to) {
         to.initError().setCode(schema::ErrorCode::INTERNAL);
         to.getError().setMessage("\xC0\xAF");  // an overlong slash
       })},
      {kTypeOf<RegisterModel>, build<RegisterModel>([](auto to) { to.setUri("/\xFE"); })},
  };
  for (const auto& [type, bytes] : cases) {
    expect_refused(decode(type, bytes), ErrorCode::kCorruptData, "not UTF-8");
  }
  const Message bad = Hello{.node = "\xFF"};
  ASSERT_FALSE(try_encode(bad));
  EXPECT_EQ(try_encode(bad).error().code, ErrorCode::kInvalidArgument);
}

TEST(MalformedTest, RefusesTextThatIsNotTerminated) {
  Bytes bytes = encode(ResolveModel{.reference = "seventy"});
  ASSERT_EQ(bytes.back(), std::byte{0});
  bytes.back() = std::byte{'!'};
  expect_refused(decode(kTypeOf<ResolveModel>, bytes), ErrorCode::kCorruptData, "\\0");
  // Cap'n Proto's own words quote the byte.
  bytes.back() = std::byte{0xFF};
  const auto decoded = decode(kTypeOf<ResolveModel>, bytes);
  ASSERT_FALSE(decoded);
  EXPECT_TRUE(base::utf8::valid(decoded.error().message));
}

TEST(MalformedTest, RefusesListsThatClaimMoreThanTheMessageHolds) {
  // 2^29 - 1 streams of no size at all, in three words.
  const std::uint64_t segment[] = {
      std::uint64_t{1} << 48,               // root: a struct of one pointer, next
      1 | std::uint64_t{7} << 32,           // that: a list of structs, none of its words
      ((std::uint64_t{1} << 29) - 1) << 2,  // its tag: so many structs of size 0
  };
  const Bytes bytes = frame(std::as_bytes(std::span(segment)));
  expect_refused(decode(kTypeOf<TokenEvents>, bytes), ErrorCode::kCorruptData, "");
}

TEST(MalformedTest, RefusesManyStructsPackedIntoOneWord) {
  // A list of bytes may be read as a list of structs that begin with a byte: eight to a word.
  constexpr std::uint64_t kBytes = 64;
  std::vector<std::uint64_t> segment = {std::uint64_t{1} << 48, 1 | (std::uint64_t{2} | kBytes << 3)
                                                                        << 32};
  segment.resize(2 + kBytes / 8);
  const Bytes bytes = frame(std::as_bytes(std::span(segment)));
  expect_refused(decode(kTypeOf<TokenEvents>, bytes), ErrorCode::kCorruptData, "at most 10");
}

TEST(MalformedTest, CountsStructsOfAllLists) {
  // As above in two lists; either would pass alone.
  const auto with_lists = [](capnp::uint lists) {
    return build<TokenEvents>([&](auto to) {
      auto streams = to.initStreams(2);
      for (capnp::uint i = 0; i < lists; ++i) {
        capnp::AnyStruct::Builder stream = streams[i];
        stream.getPointerSection()[1].initAs<capnp::List<std::uint8_t>>(8);
      }
    });
  };
  EXPECT_TRUE(decode(kTypeOf<TokenEvents>, with_lists(1)));
  expect_refused(decode(kTypeOf<TokenEvents>, with_lists(2)), ErrorCode::kCorruptData, "at most 1");
}

TEST(MalformedTest, RefusesPartsThatAreUsedAgainAndAgain) {
  // Stop strings that share their bytes: a small message must not become a large one.
  constexpr std::size_t kStops = 16;
  Bytes bytes = build_from(
      Generate{}, [](auto to) { to.initStop(kStops).set(0, std::string(200, 'a').c_str()); });
  ASSERT_TRUE(decode(kTypeOf<Generate>, bytes));
  std::vector<std::uint64_t> words(bytes.size() / 8);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  // The pointer to a list of 201 bytes, whatever its distance; the others follow it and are null.
  const auto first = std::find_if(words.begin(), words.end(), [](std::uint64_t word) {
    return (word & ~0xFFFFFFFCull) == (1 | (2 | 201ull << 3) << 32);
  });
  ASSERT_GT(words.end() - first, static_cast<std::ptrdiff_t>(kStops));
  // Each lies one word nearer to the bytes; distances count from bit 2.
  for (std::size_t i = 1; i < kStops; ++i)
    *(first + static_cast<std::ptrdiff_t>(i)) = *first - 4 * i;
  std::memcpy(bytes.data(), words.data(), bytes.size());

  expect_refused(decode(kTypeOf<Generate>, bytes), ErrorCode::kCorruptData, "limit");
}

TEST(MalformedTest, RefusesTablesThatCannotBeIndexed) {
  const RoutingTable good = {.epoch = 1,
                             .model = {},
                             .layers = 1,
                             .experts = 2,
                             .workers = {{.node = "w", .incarnation = 1, .address = "a"}},
                             .first = {0, 1, 2},
                             .pool = {0, 0}};
  const auto decoded = [&](const std::function<void(schema::RoutingTable::Builder)>& change) {
    return decode(kTypeOf<ReportReply>,
                  build_from(ReportReply{.assignments = {}, .tables = {good}, .fleet = {}},
                             [&](auto to) { change(to.getTable()); }));
  };
  const auto set_first = [](auto to, std::vector<std::uint32_t> values) {
    auto first = to.initFirst(static_cast<capnp::uint>(values.size()));
    for (capnp::uint i = 0; i < first.size(); ++i) first.set(i, values[i]);
  };
  EXPECT_TRUE(decoded([](auto) {}));
  for (const auto& first : std::vector<std::vector<std::uint32_t>>{{},
                                                                   {0, 2},
                                                                   {0, 1, 2, 2},
                                                                   {1, 1, 2},
                                                                   {0, 1, 1},
                                                                   {0, 1, 3},
                                                                   {0, 3, 2},
                                                                   {0, 0xFFFFFFFF, 2}}) {
    expect_refused(decoded([&](auto to) { set_first(to, first); }), ErrorCode::kCorruptData,
                   "table.first");
  }
  expect_refused(decoded([](auto to) { to.getPool().set(1, 1); }), ErrorCode::kCorruptData,
                 "table.pool");
  expect_refused(decoded([](auto to) { to.setExperts(3); }), ErrorCode::kCorruptData,
                 "table.first");
  expect_refused(decoded([](auto to) { to.initWorkers(0); }), ErrorCode::kCorruptData,
                 "table.pool");

  RoutingTable bad = good;
  bad.pool[0] = 1;
  const auto encoded = try_encode(ReportReply{.assignments = {}, .tables = {bad}, .fleet = {}});
  ASSERT_FALSE(encoded);
  EXPECT_EQ(encoded.error().code, ErrorCode::kInvalidArgument);
}

TEST(MalformedTest, RefusesSetsOfExpertsThatDoNotFit) {
  NodeReport report;
  report.models = {{.model = {.version = 1}, .ready = ExpertBits(1, 65)}};
  const auto decoded = [&](const std::vector<std::uint64_t>& values) {
    return decode(kTypeOf<NodeReport>, build_from(report, [&](auto to) {
                    auto words = to.getReady().initWords(static_cast<capnp::uint>(values.size()));
                    for (capnp::uint i = 0; i < words.size(); ++i) words.set(i, values[i]);
                  }));
  };
  EXPECT_TRUE(decoded({~0ull, 1}));
  for (const auto& values : std::vector<std::vector<std::uint64_t>>{{}, {0}, {0, 0, 0}, {0, 2}}) {
    expect_refused(decoded(values), ErrorCode::kCorruptData, "ready.words");
  }
}

TEST(MalformedTest, RefusesVersionsThatAreNone) {
  const NodeReport report{
      .models = {{.model = {.name = "m", .version = 1}}, {.model = {.name = "m", .version = 2}}}};
  const auto decoded = [&](const std::function<void(schema::NodeReport::Builder)>& change) {
    return decode(kTypeOf<NodeReport>, build_from(report, change));
  };
  EXPECT_TRUE(decoded([](auto) {}));
  expect_refused(decoded([](auto to) { to.getModel().setVersion(0); }), ErrorCode::kCorruptData,
                 "further");
  expect_refused(decoded([](auto to) { to.getFurther()[0].getModel().setVersion(0); }),
                 ErrorCode::kCorruptData, "models");
  EXPECT_FALSE(try_encode(NodeReport{.models = {{}}}));
  EXPECT_FALSE(try_encode(Fleet{.models = {{}}}));
}

TEST(MalformedTest, RefusesDigestsOfAnotherLength) {
  const ModelDigests digests = {
      .model = {}, .layers = 1, .experts = 2, .backbone = {}, .expert = {Sha256{}, Sha256{}}};
  const auto decoded = [&](std::size_t backbone, std::size_t expert) {
    return decode(kTypeOf<ModelDigests>, build_from(digests, [&](auto to) {
                    to.initBackbone(static_cast<capnp::uint>(backbone));
                    to.initExpert(static_cast<capnp::uint>(expert));
                  }));
  };
  EXPECT_TRUE(decoded(0, 64));
  EXPECT_TRUE(decoded(32, 64));
  expect_refused(decoded(31, 64), ErrorCode::kCorruptData, "backbone");
  expect_refused(decoded(32, 63), ErrorCode::kCorruptData, "expert");
  expect_refused(decoded(32, 96), ErrorCode::kCorruptData, "expert");

  ModelDigests bad = digests;
  bad.expert.pop_back();
  EXPECT_FALSE(try_encode(bad));
}

}  // namespace
}  // namespace conclave::wire
