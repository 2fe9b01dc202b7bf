"""A Django project in one file that verifies Signet's tokens with djangorestframework-simplejwt."""

import django
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="signs nothing in this example",
    SIMPLE_JWT={
        "ALGORITHM": "ES256",
        "JWK_URL": "https://id.example.com/.well-known/jwks.json",
        "ISSUER": "https://id.example.com",
        "AUDIENCE": "https://orders.example.com",
        "AUTH_TOKEN_CLASSES": [f"{__name__}.SignetToken"],
        "USER_ID_CLAIM": "sub",
    },
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    },
)
django.setup()

# These modules read the settings when they are imported.
from django.http import HttpResponse
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework_simplejwt.tokens import AccessToken


class SignetToken(AccessToken):
    token_type = "access_token"


@api_view()
def subject(request):
    return HttpResponse(request.user.id)


urlpatterns = [path("", subject)]

execute_from_command_line(["app.py", "runserver", "--noreload", "--skip-checks", "127.0.0.1:9000"])
