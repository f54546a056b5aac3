// Bytes of every published version must decode forever to what they were made from.
//
// A new message type: add it to testing_samples, run this test with CONCLAVE_WRITE_GOLDEN=1, which
// writes the files that are missing and never changes one that is there, and commit them.
//
// An appended field: give it a value in testing_samples; name the new bytes in goldens() with the
// next number; keep the entry of the old ones, with the sample whose new field is at its default.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "testing_samples.hpp"

namespace conclave::wire {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(CONCLAVE_SOURCE_DIR) / "schemas/golden";
const fs::path kSeeds = fs::path(CONCLAVE_SOURCE_DIR) / "libs/wire/fuzz/corpus";

struct Golden {
  std::string name;  // of the file, without .bin
  Message message;   // what it decodes to
};

// Takes from the tokens of a message what was appended to them last.
void each_token(Message& message, void (*forget)(TokenEvent&)) {
  auto* events = std::get_if<TokenEvents>(&message);
  if (events == nullptr) return;
  for (StreamEvents& stream : events->streams) {
    for (TokenEvent& event : stream.tokens) forget(event);
  }
}

void each_report(Message& message, const std::function<void(NodeReport&)>& change) {
  Fleet* fleet = std::get_if<Fleet>(&message);
  if (auto* reply = std::get_if<ReportReply>(&message)) {
    if (reply->fleet) fleet = &*reply->fleet;
  }
  if (auto* report = std::get_if<NodeReport>(&message)) change(*report);
  for (std::size_t i = 0; fleet != nullptr && i < fleet->nodes.size(); ++i) {
    change(fleet->nodes[i].report);
  }
}

// Back to one version a message, and to what a report and a fleet said of it.
void forget_versions(Message& message) {
  each_report(message, [](NodeReport& report) {
    report.models.resize(1);
    report.models[0].state = report.state;
    report.models[0].reason.clear();
    report.refused.clear();
    report.zone.clear();
    report.lost.clear();
  });
  Fleet* fleet = std::get_if<Fleet>(&message);
  if (auto* reply = std::get_if<ReportReply>(&message)) {
    reply->assignments.resize(1);
    reply->tables.resize(1);
    reply->term = 0;
    reply->leader.clear();
    if (reply->fleet) fleet = &*reply->fleet;
  }
  if (fleet == nullptr) return;
  fleet->models.resize(1);
  fleet->models[0].leaving = false;
  fleet->models[0].reason.clear();
  fleet->models[0].aliases.clear();
  fleet->term = 0;
  fleet->leader.clear();
}

// What was published of a message before, newest first; most have never grown.
std::vector<Message> earlier_of(Message message) {
  std::vector<Message> earlier;
  const auto keep = [&] {
    if (earlier.empty() || !(earlier.back() == message)) earlier.push_back(message);
  };
  keep();
  if (auto* answer = std::get_if<KeyAnswer>(&message)) answer->quota = {};
  each_report(message, [](NodeReport& report) { report.term = 0; });
  keep();
  if (auto* reply = std::get_if<ReportReply>(&message)) reply->tables[0].leaving = false;
  keep();
  if (auto* reply = std::get_if<ReportReply>(&message)) reply->tables[0].backbone = {};
  keep();
  forget_versions(message);
  each_token(message, [](TokenEvent& event) { event.pairs = event.device_us = 0; });
  keep();
  each_report(message, [](NodeReport& report) { report.models[0].expert_pairs.clear(); });
  keep();
  each_token(message, [](TokenEvent& event) { event.degraded = 0; });
  if (auto* generate = std::get_if<Generate>(&message)) {
    generate->resume.clear();
    generate->version = 0;
    generate->started_unix_s = 0;
  } else if (auto* accepted = std::get_if<Accepted>(&message)) {
    *accepted = {.prompt_tokens = accepted->prompt_tokens};
  }
  keep();
  each_token(message, [](TokenEvent& event) { event.cached_tokens = 0; });
  if (auto* generate = std::get_if<Generate>(&message)) {
    generate->priority = 0;
    generate->cache_salt.clear();
  } else if (auto* reply = std::get_if<ReportReply>(&message)) {
    reply->tables[0].policy = DegradedPolicy::kWait;
  }
  keep();
  return earlier;
}

std::vector<Golden> goldens() {
  std::vector<Golden> goldens;
  for (const Message& message : testing_samples::messages()) {
    const std::string name(type_name(type_of(message)));
    const std::vector<Message> published = earlier_of(message);
    for (std::size_t i = 0; i < published.size(); ++i) {
      goldens.push_back({name + "-" + std::to_string(published.size() - i), published[i]});
    }
  }
  return goldens;
}

Bytes read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void write_if_missing(const fs::path& path, const Bytes& bytes) {
  if (std::getenv("CONCLAVE_WRITE_GOLDEN") == nullptr || fs::exists(path)) return;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

std::set<std::string> files_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

// A seed of message_fuzz: the type, little-endian, before the bytes.
Bytes seed_of(const Golden& golden) {
  const std::uint16_t type = type_of(golden.message);
  Bytes seed = {static_cast<std::byte>(type & 0xFF), static_cast<std::byte>(type >> 8)};
  const Bytes body = read_file(kGolden / (golden.name + ".bin"));
  seed.insert(seed.end(), body.begin(), body.end());
  return seed;
}

TEST(GoldenTest, DecodesAllThatWasEverPublished) {
  std::set<std::string> names = {"envelope-1.bin"};
  for (const auto& [name, message] : goldens()) {
    SCOPED_TRACE(name);
    const fs::path path = kGolden / (name + ".bin");
    write_if_missing(path, encode(message));
    names.insert(path.filename());

    const auto decoded = decode(type_of(message), read_file(path));

    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_TRUE(*decoded == message);
  }
  write_if_missing(kGolden / "envelope-1.bin", encode(testing_samples::envelope()));
  const auto envelope = decode_envelope(read_file(kGolden / "envelope-1.bin"));
  ASSERT_TRUE(envelope) << envelope.error().to_string();
  EXPECT_TRUE(*envelope == testing_samples::envelope());
  EXPECT_EQ(files_in(kGolden), names);  // none without an expectation
}

TEST(GoldenTest, SeedsTheFuzzers) {
  for (const Golden& golden : goldens()) {
    const fs::path path = kSeeds / "message" / (golden.name + ".bin");
    write_if_missing(path, seed_of(golden));
    EXPECT_EQ(read_file(path), seed_of(golden)) << path;
  }
  const fs::path path = kSeeds / "envelope" / "envelope-1.bin";
  const Bytes seed = read_file(kGolden / "envelope-1.bin");
  write_if_missing(path, seed);
  EXPECT_EQ(read_file(path), seed);
}

}  // namespace
}  // namespace conclave::wire
