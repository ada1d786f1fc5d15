//! What is on a tape, and what must have been so before it begins.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use maishou::{
    clock::UnixMs,
    id::{MerchantId, ProductId, SkuId},
    protocol::{Body, Product, StockCount},
    room::{
        state::State,
        state_hash,
        tape::{Line, Recording, recording},
    },
};

/// A recorded show.
pub struct Show {
    /// The room as it was when the tape began.
    pub opening: State,
    pub lines: Vec<Line>,
    /// The state that the tape leads to.
    pub end: State,
}

impl Show {
    /// Reads one segment, or all of a room's folder in their order.
    ///
    /// # Errors
    /// When there is none, one cannot be read, or is of a newer version than we know (both are named).
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let read = |path: &PathBuf| recording(path).with_context(|| path.display().to_string());
        let mut segments = Vec::new();
        for path in segments_of(path)? {
            segments.extend(read(&path)?);
        }
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            bail!("{} has no whole segment of a tape", path.display());
        };
        let (opening, end) = (first.state.clone(), last.fold());
        let lines = segments.into_iter().flat_map(|segment: Recording| segment.lines).collect();
        let show = Self { opening, lines, end };
        let held: u64 = show.first_counts().values().map(|count| count.held).sum();
        ensure!(
            held == 0,
            "{} begins while {held} pieces are held by people before it: replay from an earlier segment, or the whole \
             folder",
            path.display()
        );
        Ok(show)
    }

    pub fn hash(&self) -> String {
        state_hash(&self.end)
    }

    pub fn begins_at(&self) -> Option<UnixMs> {
        self.lines.first().map(at)
    }

    pub fn ends_at(&self) -> Option<UnixMs> {
        self.lines.iter().map(at).max()
    }

    /// Every product, as it was first seen.
    pub fn goods(&self) -> BTreeMap<ProductId, Product> {
        let mut goods = BTreeMap::new();
        let shown = self.lines.iter().flat_map(|line| match line {
            Line::Event { event, .. } => match &event.body {
                Body::Shelf { items, .. } => items.as_slice(),
                _ => &[],
            },
            _ => &[],
        });
        let pinned = self.opening.pinned.iter().map(|pinned| &pinned.product);
        for product in self.opening.shelf.iter().chain(pinned).chain(shown) {
            goods.entry(product.id.clone()).or_insert_with(|| product.clone());
        }
        goods
    }

    pub fn merchants(&self) -> Vec<MerchantId> {
        let mut merchants: Vec<_> = self.goods().into_values().map(|product| product.merchant).collect();
        merchants.sort();
        merchants.dedup();
        if merchants.is_empty() { vec![MerchantId::main()] } else { merchants }
    }

    /// The counts of each SKU when the tape first knows them.
    pub fn first_counts(&self) -> BTreeMap<SkuId, StockCount> {
        let mut first = self.opening.stock.clone();
        for line in &self.lines {
            if let Line::Event { event, .. } = line
                && let Body::Stock { sku, available, held, sold, entry, .. } = &event.body
            {
                let count = StockCount { available: *available, held: *held, sold: *sold, entry: *entry };
                first.entry(sku.clone()).or_insert(count);
            }
        }
        first
    }
}

pub fn at(line: &Line) -> UnixMs {
    match line {
        Line::Head { at, .. } | Line::Tally { at, .. } | Line::Demand { at, .. } => *at,
        Line::Event { event, .. } => event.at,
        Line::Snapshot { .. } => UnixMs(0),
    }
}

/// By number; one that a crash left both packed and plain is read plain.
fn segments_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let about = || path.display().to_string();
    if fs::metadata(path).with_context(about)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = BTreeMap::new();
    for file in fs::read_dir(path).with_context(about)? {
        let path = file.with_context(about)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Some((number, kind)) = name.split_once('.') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match kind {
            "jsonl" => drop(found.insert(number, path)),
            "jsonl.zst" => drop(found.entry(number).or_insert(path)),
            _ => {}
        }
    }
    Ok(found.into_values().collect())
}
