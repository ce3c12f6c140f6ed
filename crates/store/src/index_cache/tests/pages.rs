//! Pages kept on this host.

use super::*;
use crate::index_cache::database::Database;
use crate::index_cache::home;
use crate::index_cache::pages::Pages;

const PAGE_LEN: usize = 1000;

fn page(number: u64) -> (ChunkId, Vec<u8>) {
    (chunk_id(number), vec![number as u8; PAGE_LEN])
}

fn kept(pages: &Pages, database: &Database, numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.filter(|number| pages.get(database, &chunk_id(*number)).unwrap().is_some()).collect()
}

#[test]
fn page_comes_back_until_the_cache_is_cleared() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let long = (chunk_id(1), vec![1; 10 << 20]);
    {
        let cache = open(&options);
        cache.put_pages(&[page(0), long.clone(), (chunk_id(2), vec![])]).unwrap();
        cache.put_pages(&[page(0)]).unwrap();
    }
    let cache = open(&options);
    let kept = [0, 1, 2, 3].map(|number| cache.page(&chunk_id(number)).unwrap());
    assert_eq!(kept, [Some(page(0).1), Some(long.1), Some(vec![]), None]);
}

#[test]
fn pages_that_no_run_used_for_longest_go_first() {
    let folder = TempDir::new().unwrap();
    let (_home, database) = home::open(&options(&folder), REPOSITORY).unwrap();
    let limit = 10 * PAGE_LEN as u64;
    let run = || Pages::open(&database, limit).unwrap();
    let first = run();
    first.put(&database, &[0, 1, 2, 3].map(page)).unwrap();
    let second = run();
    second.put(&database, &[4, 5, 6].map(page)).unwrap();
    assert_eq!(kept(&second, &database, 0..2), [0, 1]);
    second.record_reads(&database).unwrap();
    let third = run();
    third.put(&database, &[7, 8, 9, 10, 11].map(page)).unwrap();
    drop(third);
    assert_eq!(kept(&run(), &database, 0..12), [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn pages_stay_below_their_limit_even_within_one_run() {
    let folder = TempDir::new().unwrap();
    let (_home, database) = home::open(&options(&folder), REPOSITORY).unwrap();
    let pages = Pages::open(&database, 10 * PAGE_LEN as u64).unwrap();
    for round in 0..20 {
        let some: Vec<_> = (round * 3..round * 3 + 7).map(page).collect();
        pages.put(&database, &some).unwrap();
        assert!(kept(&pages, &database, 0..100).len() <= 10);
    }
    assert_eq!(kept(&pages, &database, 0..100).len(), 10);
}
