//! Opinions of answers.

use fishy_contracts::monitoring::{Opinion, OpinionQuery};
use fishy_core::Result;
use fishy_db::{Db, Tx, args};

use super::{from_json, to_json};
use crate::domain::opinions::by;

/// Keeps opinions; gives how many were new.
pub async fn insert(tx: &mut Tx, opinions: &[Opinion]) -> Result<u64> {
    let mut rows = Vec::with_capacity(opinions.len());
    for opinion in opinions {
        rows.push(args![&opinion.id, &opinion.prediction_id, by(&opinion.opinion), to_json(opinion)?]);
    }
    let into = "insert into opinions(id, prediction_id, by_whom, opinion)";
    tx.bulk(into, "on conflict (id) do nothing", rows).await
}

/// Opinions before a place, newest first, with their places.
pub async fn page(db: &Db, query: &OpinionQuery, before: i64, limit: usize) -> Result<Vec<(i64, Opinion)>> {
    let sql = "select o.seq, o.opinion from opinions o
               where o.seq < $1 and (o.prediction_id = $2 or $2 = '') and (o.by_whom = $3 or $3 = '')
                 and ($4 = '' or exists (select 1 from predictions p
                                         where p.prediction_id = o.prediction_id and p.deployment = $4))
               order by o.seq desc limit $5";
    let rows = db.query(sql, args![before, &query.prediction_id, &query.by, &query.deployment, limit]).await?;
    rows.iter().map(|row| Ok((row.get("seq")?, from_json(&row.get::<String>("opinion")?)?))).collect()
}
