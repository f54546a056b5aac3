#include "conclave/dispatch/latency_book.hpp"

#include <gtest/gtest.h>

namespace conclave::dispatch {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

void add(LatencyBook& book, int count, std::size_t units, nanoseconds took) {
  for (int i = 0; i < count; ++i) book.add(units, took);
}

TEST(LatencyBookTest, KnowsNothingBeforeEnoughCalls) {
  LatencyBook book;
  add(book, LatencyBook::kEnough - 1, 40, milliseconds(1));
  EXPECT_FALSE(book.quantile(40, 0.99));
  add(book, 1, 40, milliseconds(1));
  EXPECT_TRUE(book.quantile(40, 0.99));
}

TEST(LatencyBookTest, QuantilesAreAtMostAQuarterTooLong) {
  for (const nanoseconds took :
       {nanoseconds(microseconds(9)), nanoseconds(microseconds(57)), nanoseconds(microseconds(333)),
        nanoseconds(milliseconds(2)), nanoseconds(milliseconds(77)), nanoseconds(seconds(3))}) {
    LatencyBook book;
    add(book, 100, 40, took);
    EXPECT_GE(*book.quantile(40, 0.5), took);
    EXPECT_LE(*book.quantile(40, 0.5), took * 5 / 4);
  }
}

TEST(LatencyBookTest, TellsTheTailFromTheRest) {
  LatencyBook book;
  add(book, 96, 40, microseconds(100));
  add(book, 4, 40, milliseconds(10));
  EXPECT_LT(*book.quantile(40, 0.95), microseconds(130));
  EXPECT_GE(*book.quantile(40, 0.99), milliseconds(10));
}

TEST(LatencyBookTest, SizesAreApart) {
  LatencyBook book;
  add(book, 100, 40, microseconds(100));
  add(book, 100, 4000, milliseconds(10));
  EXPECT_LT(*book.quantile(40, 0.99), microseconds(130));
  EXPECT_GE(*book.quantile(4000, 0.5), milliseconds(10));
}

TEST(LatencyBookTest, AnUnknownSizeIsJudgedByALargerOneOrStretchesASmallerOne) {
  LatencyBook book;
  add(book, 100, 40, microseconds(100));
  EXPECT_LT(*book.quantile(1, 0.99), microseconds(130));
  EXPECT_GE(*book.quantile(40 * 64, 0.99), microseconds(6400));
}

TEST(LatencyBookTest, TheNewDisplacesTheOld) {
  LatencyBook book;
  add(book, 100'000, 40, milliseconds(10));
  add(book, 8'000, 40, microseconds(100));
  EXPECT_LT(*book.quantile(40, 0.99), microseconds(130));
}

TEST(LatencyBookTest, TakesAnyNumber) {
  LatencyBook book;
  add(book, 100, ~std::size_t{0}, hours(1000));
  add(book, 100, 0, nanoseconds(-5));
  EXPECT_GT(*book.quantile(~std::size_t{0}, 1.0), seconds(100));
  EXPECT_LE(*book.quantile(0, 1.0), microseconds(9));
}

}  // namespace
}  // namespace conclave::dispatch
