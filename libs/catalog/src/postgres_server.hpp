// The server of a test program. Test code only.
#pragma once

#include "conclave/testkit/test_postgres.hpp"

namespace conclave::catalog::test {

/// Started by the first test that wants it, and gone with the program.
inline testkit::TestPostgres& server() {
  static testkit::TestPostgres server;
  return server;
}

}  // namespace conclave::catalog::test
