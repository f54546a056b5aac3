#include "refusal_book.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>

#include "conclave/wire/limits.hpp"

namespace conclave::scheduler {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::SizeIs;
using wire::RefusedExpert;

wire::NodeReport report(const std::string& node, std::vector<RefusedExpert> refused,
                        std::uint64_t incarnation = 1) {
  wire::NodeReport report;
  report.node = node;
  report.role = wire::NodeRole::kExpertWorker;
  report.incarnation = incarnation;
  report.refused = std::move(refused);
  return report;
}

RefusedExpert expert(std::uint32_t layer, std::uint32_t index, std::uint32_t version = 1) {
  return {{"demo", version, "/demo.gguf", std::string(64, 'a')}, layer, index, "wrong bytes"};
}

TEST(RefusalBookTest, TellsOfEachOnceInEveryLifeOfAWorker) {
  RefusalBook book;
  book.observe(report("w1", {expert(2, 5)}));
  book.observe(report("w1", {expert(2, 5), expert(2, 6)}));
  book.observe(report("w2", {expert(2, 5)}));

  EXPECT_THAT(book.take_events(), SizeIs(3));
  book.observe(report("w1", {expert(2, 5)}));
  EXPECT_THAT(book.take_events(), IsEmpty());
  book.observe(report("w1", {expert(2, 5, 2)}));  // another version
  EXPECT_THAT(book.take_events(), SizeIs(1));
  book.observe(report("w1", {expert(2, 5)}, 2));
  EXPECT_THAT(book.take_events(), SizeIs(1));
  book.forget("w2");
  book.observe(report("w2", {expert(2, 5)}));
  EXPECT_THAT(book.take_events(), SizeIs(1));
}

TEST(RefusalBookTest, SaysWhatWasRefusedWhereAndWhy) {
  RefusalBook book;
  book.observe(report("w1", {expert(2, 5)}));
  book.observe(report(
      "r1", {{expert(0, 0).model, RefusedExpert::kBackbone, RefusedExpert::kBackbone, "?"}}));

  const auto events = book.take_events();

  ASSERT_THAT(events, ElementsAre(Field(&wire::AuditEvent::action, "expert.refused"),
                                  Field(&wire::AuditEvent::action, "backbone.refused")));
  EXPECT_EQ(events[0].subject, "demo:1");
  const json::value details = json::parse(events[0].details);
  EXPECT_EQ(details.at("node").as_string(), "w1");
  EXPECT_EQ(details.at("layer").to_number<int>(), 2);
  EXPECT_EQ(details.at("expert").to_number<int>(), 5);
  EXPECT_EQ(details.at("reason").as_string(), "wrong bytes");
  EXPECT_FALSE(json::parse(events[1].details).as_object().contains("layer"));
}

TEST(RefusalBookTest, WhatTheRegistryDidNotTakeIsToldAgainAndBounded) {
  RefusalBook book;
  book.observe(report("w1", {expert(2, 5)}));
  auto events = book.take_events();
  book.put_back(events.at(0));
  EXPECT_EQ(book.take_events(), events);

  for (std::size_t node = 0; node < RefusalBook::kWaitingMax; ++node) {
    std::vector<RefusedExpert> refused;
    for (std::uint32_t i = 0; i < wire::kRefusedMax; ++i) refused.push_back(expert(1, i));
    book.observe(report("n" + std::to_string(node), std::move(refused)));
  }
  EXPECT_THAT(book.take_events(), SizeIs(RefusalBook::kWaitingMax));
}

}  // namespace
}  // namespace conclave::scheduler
