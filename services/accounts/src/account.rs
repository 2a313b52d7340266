//! An account and what may be asked of it.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// The person an account belongs to. Has no content in `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name.
    pub name: String,
    /// 居民身份证号 (GB 11643).
    pub id_card: String,
    /// Mobile number.
    pub mobile: String,
    /// Mail address.
    pub email: String,
    /// Postal address.
    pub address: String,
}

/// One account as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Account number.
    pub id: String,
    /// Whose it is.
    pub owner: Owner,
    /// The card that draws on it.
    pub card: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Balance in minor units.
    pub balance_minor: i64,
}

impl Account {
    /// The JSON that callers see; the balance is decimal text.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id,
            "owner": self.owner,
            "card": self.card,
            "currency": self.currency,
            "balance": Money::from_minor(self.balance_minor).map(|money| money.to_string()),
        })
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A demand to move money.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Account that pays.
    pub from: String,
    /// Account or card that receives.
    pub to: String,
    /// Positive amount.
    pub amount: Money,
}

/// The accounts of a demonstration. The people are invented; numbers have right check digits and
/// begin with codes that are not in use (region 110199) or with a test prefix.
#[must_use]
pub fn seed() -> Vec<Account> {
    let rows = [
        (
            "1001",
            "欧阳明月",
            "110199199003070076",
            "13800138001",
            "ouyang@bank.test",
            "广东省深圳市南山区科技园路1号",
            "6222020200112233446",
            987_650,
        ),
        (
            "1002",
            "张伟",
            "110199198512120153",
            "13900139002",
            "zhang.wei@bank.test",
            "北京市海淀区中关村大街27号",
            "6222020200112233453",
            1_234_500,
        ),
        (
            "1003",
            "司马青",
            "110199200002290224",
            "18600186003",
            "sima@bank.test",
            "上海市浦东新区世纪大道100号",
            "6222020200112233461",
            50_000,
        ),
        (
            "1004",
            "王小红",
            "110199197807150304",
            "15900159004",
            "wang@bank.test",
            "江苏省苏州市昆山市玉山镇人民路8号",
            "6222020200112233479",
            0,
        ),
    ];
    rows.into_iter()
        .map(|(id, name, id_card, mobile, email, address, card, balance_minor)| Account {
            id: id.into(),
            owner: Owner {
                name: name.into(),
                id_card: id_card.into(),
                mobile: mobile.into(),
                email: email.into(),
                address: address.into(),
            },
            card: card.into(),
            currency: "CNY".into(),
            balance_minor,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moat_mask::formats::{bank_card::is_bank_card, email, id_card, mobile};

    #[test]
    fn the_demonstration_accounts_pass_their_checks() {
        for account in seed() {
            let owner = &account.owner;
            assert!(id_card::is_id_card(&owner.id_card), "{} {}", account.id, owner.id_card);
            assert!(mobile::is_mobile(&owner.mobile) && email::is_email(&owner.email));
            assert!(is_bank_card(&account.card), "{} {}", account.id, account.card);
            assert!(!format!("{account:?}").contains(&account.card));
        }
    }
}
