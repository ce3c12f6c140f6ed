//! How RocksDB is set up: small, point lookups of random keys, most of them absent.
//!
//! ```text
//! memory_len ┬─ 1/2 at most unwritten entries, charged to the cache; chunks fill memory_len/6 before they are written
//!            └─ the rest blocks, filters and their indexes, all of them evictable
//! ```
//!
//! Random ids do not compress and share no prefix, so chunks are stored plain. Ten bits of filter per chunk let one
//! absent id in a hundred through to a block. Filters and indexes are cut into pages which come and go in the cache, so
//! that memory does not grow with the repository. With pages of 16 KiB sorted ids share them: four times the absent ids
//! a second of 4 KiB pages at ten million chunks; longer ones cost too much where they do not all fit. The budget is
//! soft: a strict one fails reads.
//!
//! Invariant: nothing here depends on how much is stored.
//! Never here: what is stored.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, DataBlockIndexType,
    FifoCompactOptions, LogLevel, Options, WriteBufferManager,
};

use super::database::Family;
use super::place;

/// The least that works.
const MEMORY_LEN_MIN: usize = 4 << 20;
/// Files that RocksDB holds open.
const OPEN_FILES_MAX: i32 = 128;
/// Threads that write tables and merge them.
const BACKGROUND_JOBS_MAX: i32 = 2;
/// Bytes of log which an open after a crash has to read.
const LOG_LEN_MAX: u64 = 32 << 20;
/// Unwritten bytes of a small family.
const SMALL_BUFFER_LEN: usize = 1 << 20;
const FILTER_BITS_PER_KEY: f64 = 10.0;
const FILTER_PAGE_LEN: usize = 16 << 10;
const READAHEAD_LEN: usize = 256 << 10;
const TABLE_LEN: u64 = 32 << 20;

/// What a cache may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of memory.
    pub(super) memory_len: usize,
    /// Bytes of blobs on disk.
    pub(super) blobs_len_max: u64,
}

/// What all families share.
pub(super) struct Tuning {
    memory_len: usize,
    blobs_len_max: u64,
    cache: Cache,
    buffers: WriteBufferManager,
}

impl Tuning {
    pub(super) fn new(limits: Limits) -> Self {
        let memory_len = limits.memory_len.max(MEMORY_LEN_MIN);
        let cache = Cache::new_hyper_clock_cache(memory_len, 0);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(memory_len / 2, false, cache.clone());
        Self { memory_len, blobs_len_max: limits.blobs_len_max, cache, buffers }
    }

    fn blob_table_len(&self) -> usize {
        self.memory_len / 3
    }

    /// Files that RocksDB holds open: a blob may be in each table of the family, so these stay open.
    fn open_files_max(&self) -> i32 {
        let blob_tables = self.blobs_len_max / self.blob_table_len() as u64;
        OPEN_FILES_MAX + i32::try_from(blob_tables).unwrap_or(i32::MAX - OPEN_FILES_MAX)
    }

    /// The options of the database as a whole.
    pub(super) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_write_buffer_manager(&self.buffers);
        options.set_max_open_files(self.open_files_max());
        options.set_max_background_jobs(BACKGROUND_JOBS_MAX);
        options.set_max_total_wal_size(LOG_LEN_MAX);
        options.set_bytes_per_sync(1 << 20);
        options.set_compaction_readahead_size(READAHEAD_LEN);
        options.set_max_file_opening_threads(1);
        options.set_skip_stats_update_on_db_open(true);
        options.set_manifest_preallocation_size(64 << 10);
        options.set_max_manifest_file_size(4 << 20);
        options.set_log_level(LogLevel::Error);
        options.set_keep_log_file_num(1);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    /// The options of one family.
    pub(super) fn family(&self, family: Family) -> Options {
        let mut options = Options::default();
        options.set_block_based_table_factory(&self.table(family));
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(SMALL_BUFFER_LEN);
        options.set_target_file_size_base(TABLE_LEN);
        match family {
            Family::Chunks => self.tune_chunks(&mut options),
            Family::Blobs => self.tune_blobs(&mut options),
            Family::Pages => {
                options.set_compression_type(DBCompressionType::Lz4);
                options.set_write_buffer_size(self.memory_len / 12);
            }
            _ => {}
        }
        options
    }

    fn tune_chunks(&self, options: &mut Options) {
        options.set_merge_operator_associative("backstay.places", place::merge);
        options.set_write_buffer_size(self.memory_len / 6);
        options.set_max_write_buffer_number(3);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.1);
        options.set_level_zero_file_num_compaction_trigger(4);
        options.set_max_bytes_for_level_base(64 << 20);
    }

    /// Files are dropped whole, so they are to be a small part of all; two more are there before the oldest goes.
    fn tune_blobs(&self, options: &mut Options) {
        let buffer_len = self.blob_table_len();
        let mut fifo = FifoCompactOptions::default();
        fifo.set_max_table_files_size(self.blobs_len_max.saturating_sub(2 * buffer_len as u64).max(1));
        options.set_compaction_style(DBCompactionStyle::Fifo);
        options.set_fifo_compaction_options(&fifo);
        // Age drops nothing; looking for it would hold every file open.
        options.set_ttl(0);
        options.set_write_buffer_size(buffer_len);
    }

    fn table(&self, family: Family) -> BlockBasedOptions {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_bloom_filter(FILTER_BITS_PER_KEY, false);
        table.set_format_version(6);
        if family == Family::Chunks {
            table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
            table.set_partition_filters(true);
            table.set_metadata_block_size(FILTER_PAGE_LEN);
            table.set_pin_top_level_index_and_filter(true);
            table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        }
        table
    }
}
