#include "codecs.hpp"

namespace conclave::wire::codec {

void write(Encoder&, schema::ExpertCall::Builder to, const ExpertCall& from) {
  to.setModelKey(from.model_key);
  to.setEpoch(from.epoch);
  to.setLayer(from.layer);
  to.setRows(from.rows);
  to.setPairs(from.pairs);
  to.setHidden(from.hidden);
  to.setForms(static_cast<schema::RowForms>(from.forms));
}

void read(Decoder& decoder, schema::ExpertCall::Reader from, ExpertCall& to) {
  to.model_key = from.getModelKey();
  to.epoch = from.getEpoch();
  to.layer = from.getLayer();
  to.rows = from.getRows();
  to.pairs = from.getPairs();
  to.hidden = from.getHidden();
  to.forms = decoder.enumerant(from.getForms(), RowForms::kBoth, "forms");
}

void write(Encoder& encoder, schema::ExpertReply::Builder to, const ExpertReply& from) {
  to.setOk(from.ok);
  if (from.error != base::Error{}) write(encoder, to.initError(), from.error);
  to.setQueueUs(from.queue_us);
  to.setComputeUs(from.compute_us);
  to.setBatchPairs(from.batch_pairs);
}

void read(Decoder& decoder, schema::ExpertReply::Reader from, ExpertReply& to) {
  to.ok = from.getOk();
  if (from.hasError()) read(decoder, from.getError(), to.error);
  to.queue_us = from.getQueueUs();
  to.compute_us = from.getComputeUs();
  to.batch_pairs = from.getBatchPairs();
}

}  // namespace conclave::wire::codec
