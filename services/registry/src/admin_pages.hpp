// Lists of records as answers of the administration have them.
#pragma once

#include <boost/json/array.hpp>
#include <utility>
#include <vector>

#include "conclave/admin/reply.hpp"
#include "conclave/catalog/json.hpp"

namespace conclave::registry {

template <class Record>
boost::json::array array_of(const std::vector<Record>& records) {
  boost::json::array array;
  for (const Record& record : records) array.push_back(to_json(record));
  return array;
}

/// `next` is what `after` (or `before`) of the following page must be; null: this was the last.
inline wire::AdminReply page(boost::json::array data, boost::json::value next) {
  return admin::json_reply({{"data", std::move(data)}, {"next", std::move(next)}});
}

}  // namespace conclave::registry
