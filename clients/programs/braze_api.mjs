// Every method of npm's braze-api that the sandbox answers, with the example bodies of Braze's pages.
import { Braze } from 'braze-api'

const [url, key] = process.argv.slice(2)
const braze = new Braze(url, key)
const answers = {}

async function call(name, promise) {
  try {
    answers[name] = await promise
  } catch (error) {
    answers[name] = { error: error.message, status: error.status, errors: error.errors ?? null }
  }
}

const alias = { alias_name: 'example_name', alias_label: 'example_label' }

await call('users.track', braze.users.track({
  attributes: [
    {
      email: 'test@braze.com',
      string_attribute: 'fruit',
      boolean_attribute_1: true,
      integer_attribute: 26,
      array_attribute: ['banana', 'apple'],
    },
  ],
  events: [
    {
      email: 'test@braze.com',
      app_id: 'your_app_identifier',
      name: 'rented_movie',
      time: '2022-12-06T19:20:45+01:00',
      properties: {
        release: { studio: 'FilmStudio', year: '2022' },
        cast: [{ name: 'Actor1' }, { name: 'Actor2' }],
      },
    },
    {
      user_alias: { alias_name: 'device123', alias_label: 'my_device_identifier' },
      app_id: 'your_app_identifier',
      name: 'rented_movie',
      time: '2013-07-16T19:20:50+01:00',
    },
  ],
  purchases: [
    {
      email: 'test@braze.com',
      app_id: 'your_app_identifier',
      product_id: 'product_name',
      currency: 'USD',
      price: 12.12,
      quantity: 6,
      time: '2017-05-12T18:47:12Z',
      properties: { color: 'red', monogram: 'ABC', checkout_duration: 180, size: 'Large', brand: 'Backpack Locker' },
    },
  ],
}))
await call('users.track, by phone', braze.users.track({
  attributes: [{ phone: '+15043277269', string_attribute: 'fruit', array_attribute: ['banana', 'apple'] }],
}))
await call('users.track, subscription groups', braze.users.track({
  attributes: [
    {
      external_id: 'user_identifier',
      email: 'example@email.com',
      email_subscribe: 'subscribed',
      subscription_groups: [
        { subscription_group_id: '11111111-1111-4111-8111-111111111111', subscription_state: 'unsubscribed' },
        { subscription_group_id: '22222222-2222-4222-8222-222222222222', subscription_state: 'subscribed' },
      ],
    },
  ],
}))
await call('users.track, alias-only', braze.users.track({
  attributes: [{ _update_existing_only: false, user_alias: alias, email: 'email@example.com' }],
}))
await call('users.track, bulk', braze.users.track({ attributes: [{ external_id: 'old-user1', color: 'red' }] }, true))
await call('users.track, one bad event', braze.users.track({
  events: [
    { external_id: 'user_identifier', name: 'rented_movie', time: '2022-12-06T19:20:45+01:00' },
    { external_id: 'user_identifier', name: 'rented_movie' },
  ],
}))
await call('users.track, nothing valid', braze.users.track({ attributes: [{ color: 'red' }] }))
await call('users.alias.new', braze.users.alias.new({
  user_aliases: [{ external_id: 'user_identifier', alias_name: 'example_alias', alias_label: 'old_label' }],
}))
await call('users.alias.update', braze.users.alias.update({
  alias_updates: [{ alias_label: 'old_label', old_alias_name: 'example_alias', new_alias_name: 'example_new_alias' }],
}))
await call('users.identify', braze.users.identify({
  aliases_to_identify: [{ external_id: 'external_identifier', user_alias: alias }],
}))
await call('users.merge', braze.users.merge({
  merge_updates: [
    {
      identifier_to_merge: { external_id: 'old-user1' },
      identifier_to_keep: { external_id: 'user_identifier' },
    },
  ],
}))
await call('users.external_ids.rename', braze.users.external_ids.rename({
  external_id_renames: [
    { current_external_id: 'external_identifier', new_external_id: 'new_external_id' },
    { current_external_id: 'unknown', new_external_id: 'other' },
  ],
}))
await call('users.external_ids.remove', braze.users.external_ids.remove({ external_ids: ['external_identifier'] }))
await call('subscription.status.set', braze.subscription.status.set({
  subscription_group_id: 'subscription_group_identifier',
  subscription_state: 'unsubscribed',
  external_id: 'user_identifier',
}))
await call('v2.subscription.status.set', braze.v2.subscription.status.set({
  subscription_groups: [
    {
      subscription_group_id: 'subscription_group_identifier',
      subscription_state: 'subscribed',
      external_ids: ['new_external_id'],
    },
  ],
}))
await call('subscription.status.get', braze.subscription.status.get({
  subscription_group_id: 'subscription_group_identifier',
  external_id: ['user_identifier', 'new_external_id'],
}))
await call('subscription.user.status', braze.subscription.user.status({ external_id: 'user_identifier', limit: 100 }))
await call('users.export.ids', braze.users.export.ids({
  external_ids: ['user_identifier', 'unknown'],
  fields_to_export: ['external_id', 'user_aliases', 'email', 'email_subscribe', 'custom_attributes', 'custom_events'],
}))
await call('users.export.ids, by e-mail', braze.users.export.ids({
  email_address: 'test@braze.com',
  fields_to_export: ['custom_attributes', 'custom_events', 'purchases', 'total_revenue'],
}))
await call('users.delete', braze.users.delete({ external_ids: ['user_identifier', 'unknown'] }))

await call('catalogs.synchronous.list', braze.catalogs.synchronous.list())
await call('catalogs.synchronous.item', braze.catalogs.synchronous.item({
  catalog_name: 'restaurants',
  item_id: 'restaurant7',
}))
await call('catalogs.synchronous.item, unknown', braze.catalogs.synchronous.item({
  catalog_name: 'restaurants',
  item_id: 'restaurant34x',
}))
await call('catalogs.synchronous.items', (async () => {
  const ids = []
  for await (const item of braze.catalogs.synchronous.items({ catalog_name: 'restaurants' })) ids.push(item.id)
  return ids
})())

await call('wrong key', new Braze(url, 'wrong-key').users.delete({ external_ids: ['user_identifier'] }))
// The example of its README: messages are not emulated.
await call('messages.send', braze.messages.send({
  external_user_ids: ['your_external_user_id'],
  messages: {
    email: {
      app_id: 'your_app_id',
      from: 'Company <company@example.com>',
      email_template_id: 'your_email_template_id',
    },
  },
}))

console.log(JSON.stringify(answers))
