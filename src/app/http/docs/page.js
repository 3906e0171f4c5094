// A file of its own, because the page's Content-Security-Policy allows no inline script.
const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  deepLinking: true,
  // The badge would send the document's address to a validator on the internet.
  validatorUrl: null,
  // A credential stays in the page's memory: it is gone with the tab.
  persistAuthorization: false,
});
