//! `#[derive(Classify)]`: the views of a type whose fields are classified.
//!
//! Use it from `moat-mask`, which exports it and has the documentation and the tests of what does not
//! compile. A macro must be a crate of its own.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Result};

/// Implements `moat_mask::Classify`.
#[proc_macro_derive(Classify, attributes(class))]
pub fn classify(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// What `#[class(…)]` says of a field.
struct Said {
    class: Option<Ident>,
    mask: Option<LitStr>,
    name: String,
    nested: bool,
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.span(), "only a struct can be classified"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(input.span(), "classified fields have names"));
    };
    let (mut specs, mut visits, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut highest, mut count) = (Vec::new(), quote!(0));
    for field in &fields.named {
        let said = said(field)?;
        let (ident, kind, name) = (&field.ident, &field.ty, &said.name);
        if said.nested {
            let nested = quote!(<#kind as ::moat_mask::Nested>);
            specs.push(quote!(::moat_mask::FieldSpec::nested(#name, #nested::table)));
            visits.push(quote! {
                visitor.nested(#name, &mut |visitor| {
                    ::moat_mask::Nested::visit(&self.#ident, at + (#count), visitor)
                });
            });
            highest.push(quote!(#nested::HIGHEST));
            if let Some(class) = said.class {
                let class = class_of(&class)?;
                let why = format!("the class of `{name}` is below the highest of its type");
                checks.push(quote!(assert!(
                    !::moat_mask::is_stricter(#nested::HIGHEST, #class), #why
                );));
                highest.push(class);
            }
            count = quote!(#count + #nested::COUNT);
            continue;
        }
        let no_class = || Error::new(field.span(), "a class is missing: C1, C2, C3, PAN or SAD");
        let class = class_of(&said.class.ok_or_else(no_class)?)?;
        let mask = match said.mask {
            Some(mask) => {
                let why = format!("`{}` is no mask that this class allows", mask.value());
                checks.push(quote!(assert!(::moat_mask::may_show(#class, #mask), #why);));
                quote!(Some(#mask))
            }
            None => quote!(None),
        };
        specs.push(quote!(::moat_mask::FieldSpec::leaf(#name, #class, #mask)));
        visits.push(quote!(visitor.leaf(at + (#count), #name, #class, &self.#ident);));
        highest.push(class);
        count = quote!(#count + 1);
    }
    let (name, (generics, arguments, bounds)) = (&input.ident, input.generics.split_for_impl());
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::moat_mask::Classify for #name #arguments #bounds {
            const FIELDS: &'static [::moat_mask::FieldSpec] = &[#(#specs),*];
            const COUNT: usize = #count;
            const HIGHEST: ::moat_mask::Class = {
                #(#checks)*
                ::moat_mask::strictest(&[#(#highest),*])
            };

            fn visit(&self, at: usize, visitor: &mut dyn ::moat_mask::Visitor) {
                // Evaluates the checks above even where nobody asks for the highest class.
                const { assert!(!::moat_mask::is_stricter(
                    <Self as ::moat_mask::Classify>::HIGHEST, ::moat_mask::Class::Sad
                )) };
                #(#visits)*
            }
        }
    })
}

fn class_of(name: &Ident) -> Result<TokenStream> {
    Ok(match name.to_string().as_str() {
        "C1" => quote!(::moat_mask::Class::C1),
        "C2" => quote!(::moat_mask::Class::C2),
        "C3" => quote!(::moat_mask::Class::C3),
        "PAN" => quote!(::moat_mask::Class::Pan),
        "SAD" => quote!(::moat_mask::Class::Sad),
        _ => return Err(Error::new(name.span(), "write C1, C2, C3, PAN, SAD or nested")),
    })
}

fn said(field: &Field) -> Result<Said> {
    let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut said = Said { class: None, mask: None, name, nested: false };
    let mut attributes = field.attrs.iter().filter(|one| one.path().is_ident("class"));
    let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
        let why = "every field needs one #[class(…)]: what is not classified does not compile";
        return Err(Error::new(field.span(), why));
    };
    attribute.parse_nested_meta(|meta| {
        if meta.path.is_ident("mask") {
            said.mask = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("name") {
            said.name = meta.value()?.parse::<LitStr>()?.value();
        } else if meta.path.is_ident("nested") {
            said.nested = true;
        } else {
            said.class = Some(meta.path.require_ident()?.clone());
        }
        Ok(())
    })?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if said.name.is_empty() || !said.name.chars().all(plain) {
        return Err(Error::new(field.span(), "a name has letters, digits, `_`, `-` and `.`"));
    }
    if said.nested && said.mask.is_some() {
        return Err(Error::new(
            field.span(),
            "the fields of a nested type have masks of their own",
        ));
    }
    Ok(said)
}
