//! Opinions of answers.

use fishy_authz::Identity;
use fishy_contracts::List;
use fishy_contracts::monitoring::{GroundTruthReceipt, Judgement, Opinion, OpinionQuery, Opinions};
use fishy_core::Result;
use serde_json::json;

use super::Monitoring;
use crate::domain::opinions;
use crate::store;

impl Monitoring {
    /// Takes opinions; they are kept safely when this answers.
    pub async fn give_opinions(&self, request: Opinions, caller: &Identity) -> Result<GroundTruthReceipt> {
        opinions::check(&request.items)?;
        let (actor, now_ms) = (caller.to_string(), self.env.now_ms());
        let kept: Vec<Opinion> = request
            .items
            .into_iter()
            .map(|item| Opinion {
                id: item.id.unwrap_or_else(|| self.env.new_id()),
                prediction_id: item.prediction_id,
                actor: actor.clone(),
                time_ms: item.time_ms.unwrap_or(now_ms),
                received_ms: now_ms,
                opinion: item.opinion,
                text: item.text,
            })
            .collect();
        let mut tx = self.db.begin().await?;
        let accepted = store::opinions::insert(&mut tx, &kept).await?;
        if accepted > 0 {
            let ids: Vec<&str> = kept.iter().take(10).map(|opinion| opinion.prediction_id.as_str()).collect();
            let details = json!({"opinions": accepted, "prediction_ids": ids});
            self.audit(&mut tx, &actor, "feedback:write", "feedback", details).await?;
        }
        tx.commit().await?;
        for opinion in &kept {
            let says = match &opinion.opinion {
                Judgement::User { is_helpful: true, .. } => "helpful",
                Judgement::User { is_helpful: false, .. } => "not_helpful",
                Judgement::Expert { .. } => "label",
            };
            let by = opinions::by(&opinion.opinion);
            metrics::counter!("fishy_monitoring_opinions_total", "by" => by, "says" => says).increment(1);
        }
        Ok(GroundTruthReceipt { accepted, duplicates: kept.len() as u64 - accepted })
    }

    /// A page of opinions, newest first.
    pub async fn opinions(&self, query: &OpinionQuery) -> Result<List<Opinion>> {
        let (limit, before) = opinions::page(query)?;
        let mut found = store::opinions::page(&self.db, query, before, limit + 1).await?;
        let is_more = found.len() > limit;
        found.truncate(limit);
        let next_page_token = found.last().filter(|_| is_more).map(|(seq, _)| seq.to_string());
        Ok(List { items: found.into_iter().map(|(_, opinion)| opinion).collect(), next_page_token })
    }
}
